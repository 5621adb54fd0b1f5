"""Against aiosmtpd, a server that nobody here wrote: plain, STARTTLS, implicit TLS, and every mechanism of AUTH."""

from __future__ import annotations

import asyncio
import base64
import hmac
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from spoold.provider import Accepted, Deferred, Rejected, Reply, TransportFault
from tests.transports.smtp.conftest import Relay
from tests.transports.smtp.doubles import ANN, BOB, CAT, FakeDelivery

USER, PASSWORD = "ann", "correct horse"


class Mailbox:
    """Keeps what it is sent. Knows everyone but Bob; Cat's mailbox is busy."""

    def __init__(self, *, pipelining: bool = False) -> None:
        self.pipelining = pipelining
        self.envelopes: list[Envelope] = []
        self.sessions: list[Session] = []
        self.mechanisms: list[str] = []

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], *(["250-PIPELINING"] if self.pipelining else []), responses[-1]]

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("bob"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("cat"):
            return "450 4.2.1 mailbox busy"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        self.sessions.append(session)
        return "250 2.0.0 kept"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        self.mechanisms.append(mechanism)
        return AuthResult(success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()))

    async def auth_CRAM__MD5(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        self.mechanisms.append("CRAM-MD5")
        answer = await server.challenge_auth("<challenge@relay.test>")
        digest = hmac.new(PASSWORD.encode(), b"<challenge@relay.test>", "md5").hexdigest()
        return AuthResult(success=answer == f"{USER} {digest}".encode())

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        self.mechanisms.append("XOAUTH2")
        if base64.b64decode(args[1]) == f"user={USER}\x01auth=Bearer {PASSWORD}\x01\x01".encode():
            return AuthResult(success=True)
        await server.challenge_auth('{"status":"401"}')
        return AuthResult(success=False, handled=False)


Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server in a thread with a loop of its own, and returns its port."""
    running: list[Controller] = []

    def start(mailbox: Mailbox, **settings: Any) -> int:
        loop = asyncio.SelectorEventLoop()
        controller = Controller(mailbox, loop=loop, hostname="127.0.0.1", port=0, **settings)
        # port 0: Controller wants to know it beforehand, to wake the server up
        controller.start()
        running.append(controller)
        assert controller.server is not None
        return int(controller.server.sockets[0].getsockname()[1])

    yield start
    for controller in running:
        controller.stop()
        controller.loop.close()
