"""SMTP (RFC 5321): hands mail to a relay. The entry point `smtp` of the group `spoold.transports`.

options       the keys below [transports.NAME]
transport     SmtpTransport: what the spooler calls
pool          idle connections to one destination
session       opening: connect, greeting, EHLO, TLS, AUTH (by aiosmtplib)
connection    an open session: commands out, replies in, flow control, time limits
transaction   one mail transaction on a connection: MAIL, RCPT, DATA, the lock, the final dot
envelope      pure: what may be said to this server about this message
mailbox       pure: is this address fit for the wire
content       pure: line endings and transparency of the data
reply         pure: reading replies
timeouts      seconds for each step
"""

from spoold_smtp.options import SmtpOptions
from spoold_smtp.transport import SmtpTransport

__all__ = ["SmtpOptions", "SmtpTransport"]
