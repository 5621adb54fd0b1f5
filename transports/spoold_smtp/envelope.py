"""What may be said to a server about a message: the commands of RFC 5321 4.1.1.2-3 with their parameters. Pure."""

from __future__ import annotations

from spoold.provider import Delivery, Outcome, Recipient, Rejected, Reply
from spoold_smtp import mailbox
from spoold_smtp.connection import Extensions


def unfit(delivery: Delivery) -> dict[Recipient, Outcome]:
    """Those who are refused whatever the server: an address that is no mailbox must never reach the wire."""
    if delivery.sender and not mailbox.is_fit(delivery.sender):
        text = f"the reverse-path {mailbox.quote_for_text(delivery.sender)} is not a mailbox (RFC 5321 4.1.2)"
        return dict.fromkeys(delivery.recipients, Rejected(Reply.local("5.1.7", text)))
    return {
        recipient: Rejected(
            Reply.local("5.1.3", f"{mailbox.quote_for_text(recipient.address)} is not a mailbox (RFC 5321 4.1.2)")
        )
        for recipient in delivery.recipients
        if not mailbox.is_fit(recipient.address)
    }


def too_big(delivery: Delivery, extensions: Extensions, peer: str) -> Rejected | None:
    """The refusal of a message beyond the limit that the server announced (RFC 1870 6.1), None if it may be tried."""
    if not extensions.size or delivery.size <= extensions.size:
        return None
    text = f"the message has {delivery.size} octets, {peer} takes at most {extensions.size}"
    return Rejected(Reply.local("5.3.4", text))


def needs_smtputf8(delivery: Delivery) -> bool:
    """True if the message or one of its addresses takes RFC 6531."""
    return (
        delivery.utf8
        or not delivery.sender.isascii()
        or not all(recipient.address.isascii() for recipient in delivery.recipients)
    )


def without_smtputf8(delivery: Delivery, header_is_ascii: bool, peer: str) -> dict[Recipient, Outcome]:
    """Those whom a server without SMTPUTF8 cannot serve: all, or only those with an address outside ASCII."""
    if not delivery.sender.isascii() or not header_is_ascii:
        what = "message" if delivery.sender.isascii() else "reverse-path"
        text = f"{peer} does not offer SMTPUTF8, which the {what} needs (RFC 6531)"
        return dict.fromkeys(delivery.recipients, Rejected(Reply.local("5.6.7", text)))
    text = f"{peer} does not offer SMTPUTF8, which the address needs (RFC 6531)"
    rejected = Rejected(Reply.local("5.6.7", text))
    return {recipient: rejected for recipient in delivery.recipients if not recipient.address.isascii()}


def mail_command(delivery: Delivery, extensions: Extensions, smtputf8: bool) -> bytes:
    """MAIL with SIZE (RFC 1870), BODY (RFC 6152) and SMTPUTF8 (RFC 6531), each only if the server offered it.

    SIZE is the size as stored: an estimate, as RFC 1870 6 allows, where line endings will change. A server without
    8BITMIME gets eight-bit content as it is: re-coding would break signatures, and refusing helps nobody.
    """
    command = f"MAIL FROM:<{delivery.sender}>"
    if extensions.size is not None:
        command += f" SIZE={delivery.size}"
    if extensions.eight_bit_mime and delivery.eight_bit:
        command += " BODY=8BITMIME"
    if smtputf8:
        command += " SMTPUTF8"
    return command.encode() + b"\r\n"


def rcpt_command(recipient: Recipient) -> bytes:
    """RCPT for one recipient."""
    return b"RCPT TO:<%b>\r\n" % recipient.address.encode()
