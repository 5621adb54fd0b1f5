"""Opening a session: connect, greeting, EHLO, STARTTLS or implicit TLS, AUTH. aiosmtplib does the talking.

We make the socket connection ourselves, so that each address of the host is tried and every failure is told apart,
and give aiosmtplib a protocol that reads along with our own strict parser: octets that nothing had asked for (such as
plain text sent ahead of the TLS handshake, CVE-2011-0411) end the attempt instead of being dropped in silence.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass, field
from typing import cast

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

from spoold.provider import Deferred, Reply
from spoold_smtp import login
from spoold_smtp.connection import SERVICE_CLOSING, Connection, Extensions
from spoold_smtp.reply import ReplyReader, reply_from
from spoold_smtp.timeouts import Timeouts


class SessionFailed(Exception):
    """No session could be opened. `outcome` is what that means for everyone who was to be served with it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.outcome = Deferred(reply, destination_down=True)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and how to get a session with it. `tls` as in the options; `context` unless `tls` is "none"."""

    host: str
    port: int
    peer: str
    tls: str
    timeouts: Timeouts
    context: ssl.SSLContext | None = None
    credentials: login.Credentials | None = field(default=None, repr=False)
    source_address: str | None = None
    local_hostname: str | None = None


class AttentiveProtocol(SMTPProtocol):
    """aiosmtplib's protocol, with an ear of its own: `fault` says how the server broke the order, if it did."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.fault = ""
        self._reader = ReplyReader()
        self._asked = 1  # the greeting

    def write(self, data: bytes) -> None:
        self._asked += 1  # in this phase every write is one command, or one answer to a challenge
        super().write(data)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        self._asked -= len(reader.replies)
        reader.replies.clear()
        if reader.fault:
            self.fault = f"protocol error: {reader.fault}"
        elif self._asked < 0 or (self._asked == 0 and reader.pending):
            self.fault = "the server spoke unasked"
        if self.fault:
            if self.transport is not None:
                cast(asyncio.Transport, self.transport).abort()
            return
        super().data_received(data)


async def open_session(endpoint: Endpoint) -> Connection:
    """Open a session, ready for MAIL. Raises SessionFailed, or TransportFault for what only an operator can mend."""
    loop = asyncio.get_running_loop()
    protocol = await _connect(endpoint, loop)
    transport = cast(asyncio.Transport, protocol.transport)
    try:
        smtp = aiosmtplib.SMTP(
            hostname=endpoint.host,
            local_hostname=endpoint.local_hostname or _address_literal(transport),
            timeout=endpoint.timeouts.command,
            tls_context=endpoint.context,
        )
        smtp.protocol, smtp.transport = protocol, transport
        await _greet(smtp, protocol, endpoint.timeouts.greeting)
        if endpoint.tls in {"opportunistic", "starttls"}:
            await _start_tls(smtp, endpoint)
        if endpoint.credentials is not None:
            await login.authenticate(smtp, endpoint.credentials, endpoint.peer)
        if protocol.fault or protocol.transport is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        transport = cast(asyncio.Transport, protocol.transport)
        return Connection(transport, endpoint.peer, _extensions(smtp), loop)
    except BaseException as exc:
        transport = cast(asyncio.Transport, protocol.transport or transport)
        transport.abort()
        if isinstance(exc, OSError | aiosmtplib.SMTPException):
            raise SessionFailed(_reason(exc, protocol.fault, endpoint.peer)) from exc
        raise


async def _connect(endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> AttentiveProtocol:
    """Connect to the first address that answers (RFC 5321 5.1)."""
    timeouts = endpoint.timeouts
    implicit = endpoint.tls == "implicit"
    failure = Reply.local("4.4.4", f"{endpoint.host} has no address that can be used")
    for family, address in await _addresses(endpoint, loop):
        try:
            async with asyncio.timeout(timeouts.connect + timeouts.tls if implicit else timeouts.connect):
                _, protocol = await loop.create_connection(
                    lambda: AttentiveProtocol(loop),
                    address,
                    endpoint.port,
                    family=family,
                    local_addr=(endpoint.source_address, 0) if endpoint.source_address else None,
                    ssl=endpoint.context if implicit else None,
                    server_hostname=endpoint.host if implicit else None,
                    ssl_handshake_timeout=timeouts.tls if implicit else None,
                )
        except OSError as exc:
            failure = _reason(exc, "", endpoint.peer)
        else:
            return protocol
    raise SessionFailed(failure)


async def _addresses(endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> list[tuple[int, str]]:
    """The host's addresses, in the order of preference that the system's resolver gives them (RFC 6724)."""
    family = socket.AF_UNSPEC
    if endpoint.source_address:
        family = socket.AF_INET6 if ":" in endpoint.source_address else socket.AF_INET
    try:
        literal = ipaddress.ip_address(endpoint.host)
    except ValueError:
        pass
    else:
        return [(socket.AF_INET6 if literal.version == 6 else socket.AF_INET, endpoint.host)]
    try:
        async with asyncio.timeout(endpoint.timeouts.connect):
            found = await loop.getaddrinfo(endpoint.host, endpoint.port, family=family, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise SessionFailed(Reply.local("4.4.3", f"host name {endpoint.host}: no answer from the resolver")) from None
    except (OSError, UnicodeError) as exc:
        cause = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        reply = Reply.local("4.4.3", f"host name {endpoint.host} does not resolve: {cause}")
        raise SessionFailed(reply) from exc
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


async def _greet(smtp: aiosmtplib.SMTP, protocol: AttentiveProtocol, seconds: float) -> None:
    greeting = await protocol.read_response(timeout=seconds)
    if greeting.code != 220:
        raise aiosmtplib.SMTPConnectResponseError(greeting.code, greeting.message)
    await _hello(smtp)


async def _hello(smtp: aiosmtplib.SMTP) -> None:
    """EHLO, or HELO for a server that does not know it (RFC 5321 3.2)."""
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError as exc:
        if exc.code < 500 or not smtp.is_connected:
            raise
        await smtp.helo()


async def _start_tls(smtp: aiosmtplib.SMTP, endpoint: Endpoint) -> None:
    """STARTTLS and a new EHLO (RFC 3207). Opportunistic TLS goes without if the server does not have it."""
    required = endpoint.tls == "starttls"
    if not smtp.supports_extension("starttls"):
        if required:
            raise SessionFailed(Reply.local("4.7.4", f"{endpoint.peer} does not offer STARTTLS"))
        return
    try:
        await smtp.starttls(timeout=endpoint.timeouts.tls)
    except aiosmtplib.SMTPResponseException as exc:
        if required or exc.code < 400 or exc.code == SERVICE_CLOSING:
            raise
        return  # refused before anything had changed: the session goes on as it was
    await _hello(smtp)


def _extensions(smtp: aiosmtplib.SMTP) -> Extensions:
    size: int | None = None
    if smtp.supports_extension("size"):
        limit = smtp.esmtp_extensions["size"].strip()
        size = int(limit) if limit.isascii() and limit.isdigit() and len(limit) <= 20 else 0
    return Extensions(
        pipelining=smtp.supports_extension("pipelining"),
        size=size,
        eight_bit_mime=smtp.supports_extension("8bitmime"),
        smtputf8=smtp.supports_extension("smtputf8"),
    )


def _address_literal(transport: asyncio.Transport) -> str:
    """What a client without a name of its own says in EHLO (RFC 5321 4.1.3, 4.1.4)."""
    address = str(transport.get_extra_info("sockname")[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _reason(exc: Exception, fault: str, peer: str) -> Reply:
    """Why there is no session, in the server's words if it said any."""
    if fault:
        return Reply.local("4.5.0", f"{peer}: {fault}")
    match exc:
        case aiosmtplib.SMTPResponseException() if exc.code >= 400:
            return reply_from(exc.code, exc.message)
        case aiosmtplib.SMTPResponseException():
            return Reply.local("4.5.0", f"{peer}: unexpected reply: {reply_from(exc.code, exc.message)}")
        case ssl.SSLCertVerificationError():
            return Reply.local("4.7.5", f"certificate of {peer} could not be verified: {exc.verify_message}")
        case ssl.SSLError():
            return Reply.local("4.7.5", f"TLS with {peer} failed: {exc.reason or exc}")
        case aiosmtplib.SMTPTimeoutError():
            return Reply.local("4.4.2", f"{peer}: {exc}")
        case TimeoutError():
            return Reply.local("4.4.1", f"connection to {peer} timed out")
        case ConnectionRefusedError():
            return Reply.local("4.4.1", f"connection to {peer} refused")
        case aiosmtplib.SMTPException():
            return Reply.local("4.4.2", f"connection to {peer} lost")
        case _:
            return Reply.local("4.4.1", f"connection to {peer} failed: {_cause(exc)}")


def _cause(exc: Exception) -> str:
    """The system's word for it; asyncio puts its own in front, which names the address once more."""
    errno = getattr(exc, "errno", None)
    if errno and "bind" not in str(exc):
        return os.strerror(errno)
    return str(exc)
