"""SmtpTransport: what the spooler calls. One relay, one pool."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import SecretStr

from spoold.provider import Delivery, Outcome, Recipient, Status, TransportFault
from spoold_smtp import envelope
from spoold_smtp.connection import Connection
from spoold_smtp.login import Credentials
from spoold_smtp.options import SmtpOptions, is_ehlo_name
from spoold_smtp.pool import Pool
from spoold_smtp.reply import reply_from
from spoold_smtp.session import Endpoint, SessionFailed, open_session
from spoold_smtp.timeouts import Timeouts
from spoold_smtp.transaction import StaleConnection, Transaction


class SmtpTransport:
    """Hands mail to a relay by SMTP (RFC 5321); see `spoold.provider.Transport` for what each method promises."""

    Options: ClassVar[type[SmtpOptions]] = SmtpOptions
    address_types: frozenset[str] = frozenset({"SMTP"})

    def __init__(self, name: str, options: SmtpOptions) -> None:
        self.name = name
        self._options = options
        self._timeouts = Timeouts.capped(options.timeout)
        self._endpoint = Endpoint(
            host=options.host,
            port=options.effective_port,
            peer=options.destination,
            tls=options.tls,
            timeouts=self._timeouts,
            source_address=str(options.source_address) if options.source_address else None,
            local_hostname=options.local_hostname,
        )
        self._pool = Pool(
            self._open,
            transactions=options.messages_per_connection,
            idle_time=options.connection_idle_time,
            lifetime=options.connection_lifetime,
        )

    async def logon(self) -> None:
        """Read the certificates and the password. Raises TransportFault if they cannot be read or may not be sent."""
        options = self._options
        if options.tls == "none" and options.username is not None and not options.allow_plaintext_auth:
            raise TransportFault(
                f"tls = \"none\" would send the credentials of user '{options.username}' in plain text: "
                'set tls = "starttls" or "implicit", or allow_plaintext_auth = true'
            )
        self._endpoint = dataclasses.replace(
            self._endpoint,
            context=await asyncio.to_thread(_tls_context, options),
            credentials=await asyncio.to_thread(_credentials, options),
        )

    def destination(self, recipient: str) -> str:  # noqa: ARG002 - the protocol's signature
        """The relay, "host:port", whoever the recipient is."""
        return self._endpoint.peer

    async def deliver(self, delivery: Delivery) -> Mapping[Recipient, Outcome]:
        """One mail transaction; an outcome for each recipient. Raises Withdrawn, TransportFault."""
        outcomes = envelope.unfit(delivery)
        if len(outcomes) == len(delivery.recipients):
            return outcomes
        connection = self._pool.idle()
        try:
            if connection is not None:
                try:
                    return await self._transact(connection, delivery, outcomes)
                except StaleConnection:
                    pass
            return await self._transact(await self._pool.open(), delivery, outcomes)
        except SessionFailed as failure:
            return dict.fromkeys(delivery.recipients, failure.outcome) | outcomes

    async def validate(self) -> Status:
        """Open a session with AUTH, say NOOP and QUIT. Reads certificates and password anew first."""
        try:
            await self.logon()
            connection = await self._pool.open()
            try:
                connection.ask(b"NOOP\r\n", 1, self._timeouts.command, "the reply to NOOP")
                replies = await connection.answers()
            finally:
                connection.quit()
        except (TransportFault, SessionFailed) as exc:
            return Status(False, str(exc))
        if connection.broken:
            return Status(False, str(connection.broken))
        if replies[0].code >= 300:
            return Status(False, f"{self._endpoint.peer} refused NOOP: {reply_from(*replies[0])}")
        return Status(True, f"{self._endpoint.peer} answered: {reply_from(*replies[0])}")

    async def logoff(self) -> None:
        """Say QUIT to the server on every idle session; takes two seconds at most."""
        await self._pool.close()

    async def _transact(
        self, connection: Connection, delivery: Delivery, outcomes: dict[Recipient, Outcome]
    ) -> dict[Recipient, Outcome]:
        try:
            return await Transaction(connection, delivery, outcomes, self._timeouts).run()
        finally:
            self._pool.release(connection)

    async def _open(self) -> Connection:
        if self._endpoint.local_hostname is None:
            name = await asyncio.to_thread(socket.getfqdn)  # may ask a name server
            self._endpoint = dataclasses.replace(self._endpoint, local_hostname=name if is_ehlo_name(name) else "")
        return await open_session(self._endpoint)


def _tls_context(options: SmtpOptions) -> ssl.SSLContext | None:
    """The client's TLS settings. Opportunistic TLS protects against listening only, so it verifies nothing (RFC 7435)."""
    if options.tls == "none":
        return None
    if options.tls == "opportunistic":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        return ssl.create_default_context(cafile=str(options.tls_ca_file) if options.tls_ca_file else None)
    except OSError as exc:  # includes what is no certificate
        raise TransportFault(f"cannot read tls_ca_file {options.tls_ca_file}: {exc.strerror or exc}") from exc


def _credentials(options: SmtpOptions) -> Credentials | None:
    if options.username is None:
        return None
    secret = options.password or _secret_from(options.password_file)
    return Credentials(options.username, secret, options.auth, options.allow_plaintext_auth)


def _secret_from(path: Path | None) -> SecretStr:
    """What the file holds, without the line end that editors add."""
    try:
        text = path.read_text("utf-8").rstrip("\r\n") if path else ""
    except OSError as exc:
        raise TransportFault(f"cannot read password_file {path}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError:
        raise TransportFault(f"password_file {path} is not UTF-8 text") from None
    if not text:
        raise TransportFault(f"password_file {path} is empty")
    return SecretStr(text)
