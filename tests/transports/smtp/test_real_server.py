"""Against aiosmtpd, a server that nobody here wrote: plain, STARTTLS, implicit TLS, and every mechanism of AUTH."""

from __future__ import annotations

import asyncio
import base64
import hmac
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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
        known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known, handled=False)

    async def auth_CRAM__MD5(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        self.mechanisms.append("CRAM-MD5")
        answer = await server.challenge_auth("<challenge@relay.test>")
        digest = hmac.new(PASSWORD.encode(), b"<challenge@relay.test>", "md5").hexdigest()
        return AuthResult(success=answer == f"{USER} {digest}".encode(), handled=False)

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        self.mechanisms.append("XOAUTH2")
        if base64.b64decode(args[1]) == f"user={USER}\x01auth=Bearer {PASSWORD}\x01\x01".encode():
            return AuthResult(success=True)
        await server.challenge_auth('{"status":"401"}')
        return AuthResult(success=False, handled=False)


class ServerThread:
    """aiosmtpd in a thread with an event loop of its own: its STARTTLS works on asyncio's loop only."""

    def __init__(self) -> None:
        self._loop = asyncio.SelectorEventLoop()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def listen(self, mailbox: Mailbox, *, implicit_tls: ssl.SSLContext | None = None, **settings: Any) -> int:
        """Returns the port."""

        async def create() -> asyncio.Server:
            return await self._loop.create_server(
                lambda: SMTP(mailbox, loop=self._loop, enable_SMTPUTF8=True, **settings),
                "127.0.0.1",
                0,
                ssl=implicit_tls,
            )

        server = asyncio.run_coroutine_threadsafe(create(), self._loop).result()
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def stop(self) -> None:
        async def wind_up() -> None:
            for server in self._servers:
                server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(wind_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def real() -> Iterator[ServerThread]:
    thread = ServerThread()
    yield thread
    thread.stop()


@pytest.mark.parametrize("pipelining", [False, True])
async def test_a_real_server_gets_the_message_and_the_recipients_it_knows(
    real: ServerThread, relay: Relay, pipelining: bool
) -> None:
    mailbox = Mailbox(pipelining=pipelining)
    transport = await relay(real.listen(mailbox), tls="none")
    delivery = FakeDelivery(ANN, BOB, CAT, content=b"Subject: x\n\n.dot\n..two\n.\nbare\rcr\nno end")
    assert await transport.deliver(delivery) == {
        ANN: Accepted(Reply(250, "2.0.0", "kept")),
        BOB: Rejected(Reply(550, "5.1.1", "no such mailbox")),
        CAT: Deferred(Reply(450, "4.2.1", "mailbox busy")),
    }
    envelope = mailbox.envelopes[0]
    assert envelope.mail_from == "sender@example.com"
    assert envelope.rcpt_tos == ["ann@example.com"]
    assert envelope.content == b"Subject: x\r\n\r\n.dot\r\n..two\r\n.\r\nbare\r\ncr\r\nno end\r\n"
    assert mailbox.sessions[0].host_name == "client.test"


@pytest.mark.parametrize("pipelining", [False, True])
async def test_a_real_server_gets_megabytes_unharmed(real: ServerThread, relay: Relay, pipelining: bool) -> None:
    mailbox = Mailbox(pipelining=pipelining)
    transport = await relay(real.listen(mailbox), tls="none")
    text = b"".join(b".%d\n" % number * 3 for number in range(200_000))
    chunks = [text[at : at + 256 * 1024] for at in range(0, len(text), 256 * 1024)]
    assert isinstance((await transport.deliver(FakeDelivery(ANN, content=chunks)))[ANN], Accepted)
    assert mailbox.envelopes[0].content == text.replace(b"\n", b"\r\n")


async def test_a_real_server_serves_many_messages_in_one_session(real: ServerThread, relay: Relay) -> None:
    mailbox = Mailbox()
    transport = await relay(real.listen(mailbox), tls="none")
    for _ in range(20):
        assert isinstance((await transport.deliver(FakeDelivery(ANN)))[ANN], Accepted)
    assert len({id(session) for session in mailbox.sessions}) == 1
    assert len(mailbox.envelopes) == 20


@pytest.mark.parametrize("tls", ["none", "opportunistic"])
async def test_a_server_without_tls_is_spoken_to_in_the_clear(real: ServerThread, relay: Relay, tls: str) -> None:
    mailbox = Mailbox()
    transport = await relay(real.listen(mailbox), tls=tls)
    assert isinstance((await transport.deliver(FakeDelivery(ANN)))[ANN], Accepted)
    assert mailbox.sessions[0].ssl is None


async def test_opportunistic_tls_is_used_where_offered_without_verifying(
    real: ServerThread, relay: Relay, stranger_tls: ssl.SSLContext
) -> None:
    mailbox = Mailbox()
    transport = await relay(real.listen(mailbox, tls_context=stranger_tls, require_starttls=True))
    assert isinstance((await transport.deliver(FakeDelivery(ANN)))[ANN], Accepted)
    assert mailbox.sessions[0].ssl is not None


async def test_starttls_verifies_the_certificate(
    real: ServerThread, relay: Relay, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    mailbox = Mailbox(pipelining=True)
    transport = await relay(real.listen(mailbox, tls_context=server_tls), tls="starttls", tls_ca_file=ca_file)
    assert isinstance((await transport.deliver(FakeDelivery(ANN)))[ANN], Accepted)
    assert mailbox.sessions[0].ssl is not None


@pytest.mark.parametrize("trusted", [False, True])
async def test_starttls_with_a_wrong_certificate_defers(
    real: ServerThread,
    relay: Relay,
    server_tls: ssl.SSLContext,
    stranger_tls: ssl.SSLContext,
    ca_file: Path,
    *,
    trusted: bool,
) -> None:
    mailbox = Mailbox()
    port = real.listen(mailbox, tls_context=stranger_tls if trusted else server_tls)
    transport = await relay(port, tls="starttls", tls_ca_file=ca_file if trusted else None)
    outcome = (await transport.deliver(FakeDelivery(ANN)))[ANN]
    assert isinstance(outcome, Deferred)
    assert outcome.destination_down
    assert outcome.reply.enhanced == "4.7.5"
    assert f"certificate of 127.0.0.1:{port} could not be verified" in outcome.reply.text
    assert not mailbox.envelopes


async def test_implicit_tls_carries_megabytes(
    real: ServerThread, relay: Relay, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    mailbox = Mailbox(pipelining=True)
    transport = await relay(real.listen(mailbox, implicit_tls=server_tls), tls="implicit", tls_ca_file=ca_file)
    chunks = [b"x" * 78 + b"\r\n"] * 50_000
    for _ in range(2):
        assert isinstance((await transport.deliver(FakeDelivery(ANN, content=chunks)))[ANN], Accepted)
    assert [len(envelope.content or b"") for envelope in mailbox.envelopes] == [4_000_000, 4_000_000]


@pytest.mark.parametrize(
    ("auth", "used"),
    [
        ("auto", "PLAIN"),
        ("plain", "PLAIN"),
        ("login", "LOGIN"),
        ("cram-md5", "CRAM-MD5"),
        ("xoauth2", "XOAUTH2"),
    ],
)
async def test_every_mechanism_logs_in_under_tls(
    real: ServerThread, relay: Relay, server_tls: ssl.SSLContext, ca_file: Path, *, auth: str, used: str
) -> None:
    mailbox = Mailbox()
    port = real.listen(mailbox, tls_context=server_tls, auth_required=True, authenticator=mailbox.authenticate)
    keys = {"tls": "starttls", "tls_ca_file": ca_file, "auth": auth, "username": USER}
    transport = await relay(port, **keys, password=PASSWORD)
    assert (await transport.validate()).ok
    assert isinstance((await transport.deliver(FakeDelivery(ANN)))[ANN], Accepted)
    assert set(mailbox.mechanisms) == {used}

    wrong = await relay(port, **keys, password="battery staple")
    with pytest.raises(TransportFault, match=f"relay 127.0.0.1:{port} refused the credentials of user 'ann': 535") as e:
        await wrong.deliver(FakeDelivery(ANN))
    assert "battery" not in str(e.value)


async def test_a_login_over_implicit_tls_works(
    real: ServerThread, relay: Relay, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    mailbox = Mailbox()
    port = real.listen(
        mailbox, implicit_tls=server_tls, auth_require_tls=False, authenticator=mailbox.authenticate
    )  # aiosmtpd does not know that it is under TLS here
    transport = await relay(port, tls="implicit", tls_ca_file=ca_file, username=USER, password=PASSWORD)
    assert isinstance((await transport.deliver(FakeDelivery(ANN)))[ANN], Accepted)
    assert mailbox.mechanisms == ["PLAIN"]
