"""What is said to the server about the message, and what is never said."""

from __future__ import annotations

import pytest

from spoold.provider import Accepted, Recipient, Rejected, Reply
from tests.transports.smtp.conftest import Relay
from tests.transports.smtp.doubles import ANN, BOB, BODY, FakeDelivery, ScriptedServer, Session

JOSE = Recipient(7, "josé@example.com")
UTF8_BODY = "From: josé@example.com\r\n\r\nHi\r\n".encode()


async def accepting(session: Session, *extensions: str, recipients: int = 1) -> None:
    await session.greet("PIPELINING", *extensions)
    await session.envelope(recipients=recipients)
    await session.message()
    session.say("250 ok")


@pytest.mark.parametrize(
    ("extensions", "delivery", "mail"),
    [
        ((), FakeDelivery(), b"MAIL FROM:<sender@example.com>\r\n"),
        ((), FakeDelivery(sender=""), b"MAIL FROM:<>\r\n"),
        (("SIZE 1000",), FakeDelivery(), b"MAIL FROM:<sender@example.com> SIZE=%d\r\n" % len(BODY)),
        (("SIZE",), FakeDelivery(), b"MAIL FROM:<sender@example.com> SIZE=%d\r\n" % len(BODY)),
        (("SIZE 0",), FakeDelivery(), b"MAIL FROM:<sender@example.com> SIZE=%d\r\n" % len(BODY)),
        (("8BITMIME",), FakeDelivery(), b"MAIL FROM:<sender@example.com>\r\n"),
        (("8BITMIME",), FakeDelivery(content=b"\r\n\xe9\r\n"), b"MAIL FROM:<sender@example.com> BODY=8BITMIME\r\n"),
        ((), FakeDelivery(content=b"\r\n\xe9\r\n"), b"MAIL FROM:<sender@example.com>\r\n"),
        (
            ("SMTPUTF8", "8BITMIME"),
            FakeDelivery(content=UTF8_BODY, utf8=True),
            b"MAIL FROM:<sender@example.com> BODY=8BITMIME SMTPUTF8\r\n",
        ),
        (("SMTPUTF8",), FakeDelivery(JOSE), b"MAIL FROM:<sender@example.com> SMTPUTF8\r\n"),
        (
            ("SMTPUTF8",),
            FakeDelivery(sender="josé@example.com"),
            "MAIL FROM:<josé@example.com> SMTPUTF8\r\n".encode(),
        ),
        (("SMTPUTF8",), FakeDelivery(), b"MAIL FROM:<sender@example.com>\r\n"),
    ],
)
async def test_mail_has_the_parameters_that_the_server_offers_and_the_message_needs(
    relay: Relay, extensions: tuple[str, ...], delivery: FakeDelivery, mail: bytes
) -> None:
    async def script(session: Session) -> None:
        await accepting(session, *extensions)

    delivery.locked.clear()  # the parameters are made once, the test runs on every event loop
    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert {type(outcome) for outcome in (await transport.deliver(delivery)).values()} == {Accepted}
        assert mail in server.sessions[0].read
        await transport.logoff()


async def test_a_message_beyond_the_announced_limit_is_refused_without_trying(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("SIZE 100", "PIPELINING")
        await session.envelope()
        await session.message()
        session.say("250 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        text = f"the message has 101 octets, 127.0.0.1:{server.port} takes at most 100"
        refused = Rejected(Reply.local("5.3.4", text))
        assert await transport.deliver(FakeDelivery(ANN, BOB, size=101)) == {ANN: refused, BOB: refused}
        assert isinstance((await transport.deliver(FakeDelivery(ANN, size=100)))[ANN], Accepted)
        await transport.logoff()


async def test_without_smtputf8_only_those_with_such_an_address_are_refused(relay: Relay) -> None:
    async with ScriptedServer(accepting) as server:
        transport = await relay(server.port)
        outcomes = await transport.deliver(FakeDelivery(ANN, JOSE, utf8=True))
        assert isinstance(outcomes[ANN], Accepted)
        text = f"127.0.0.1:{server.port} does not offer SMTPUTF8, which the address needs (RFC 6531)"
        assert outcomes[JOSE] == Rejected(Reply.local("5.6.7", text))
        assert b"jos" not in server.sessions[0].read
        await transport.logoff()


@pytest.mark.parametrize(
    ("delivery", "what"),
    [
        (FakeDelivery(ANN, JOSE, content=UTF8_BODY, utf8=True), "message"),
        (FakeDelivery(ANN, JOSE, sender="josé@example.com"), "reverse-path"),
    ],
)
async def test_without_smtputf8_everyone_is_refused_where_header_or_sender_needs_it(
    relay: Relay, delivery: FakeDelivery, what: str
) -> None:
    async def silent(session: Session) -> None:
        await session.greet("PIPELINING")

    async with ScriptedServer(silent) as server:
        transport = await relay(server.port)
        text = f"127.0.0.1:{server.port} does not offer SMTPUTF8, which the {what} needs (RFC 6531)"
        refused = Rejected(Reply.local("5.6.7", text))
        assert await transport.deliver(delivery) == {ANN: refused, JOSE: refused}
        await transport.logoff()
        assert b"MAIL" not in server.sessions[0].read


INJECTIONS = [
    "a@example.com>\r\nRCPT TO:<b@example.com",
    "a@example.com\nDATA",
    "a@example.com> SIZE=1",
    "a b@example.com",
    "<a@example.com>",
    "a@exam\x00ple.com",
    "a@example.com\u2028x",
    "a@b@example.com",
    "a,b@example.com",
    "\udcffa@example.com",
    "",
    " ",
    "a" * 901,
]


@pytest.mark.parametrize("address", INJECTIONS)
async def test_an_address_that_is_no_mailbox_never_reaches_the_wire(relay: Relay, address: str) -> None:
    async with ScriptedServer(accepting) as server:
        transport = await relay(server.port)
        bad = Recipient(9, address)
        outcomes = await transport.deliver(FakeDelivery(bad, ANN))
        assert isinstance(outcomes[ANN], Accepted)
        refused = outcomes[bad]
        assert isinstance(refused, Rejected)
        assert refused.reply.enhanced == "5.1.3"
        assert refused.reply.text.isprintable()
        assert server.sessions[0].read.count(b"RCPT") == 1
        await transport.logoff()


@pytest.mark.parametrize("address", [address for address in INJECTIONS if address])
async def test_a_reverse_path_that_is_no_mailbox_never_reaches_the_wire(relay: Relay, address: str) -> None:
    async with ScriptedServer() as server:
        transport = await relay(server.port)
        for outcome in (await transport.deliver(FakeDelivery(ANN, BOB, sender=address))).values():
            assert isinstance(outcome, Rejected)
            assert outcome.reply.enhanced == "5.1.7"
            assert outcome.reply.text.isprintable()
        assert not server.sessions
