"""The mail transaction, against a server that plays a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest

from spoold.provider import Accepted, Deferred, InDoubt, Recipient, Rejected, Reply, Withdrawn
from tests.transports.smtp.conftest import Relay
from tests.transports.smtp.doubles import ANN, BOB, BODY, CAT, FakeDelivery, ScriptedServer, Session, forever, withdrawn

MEGABYTES = [(b"0123456789abcdef" * 4 + b"\r\n") * 3971] * 100  # 26 MB in chunks of nearly 256 KiB
PIPELINING = pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelined", "one by one"])
DOT = b"\r\n.\r\n"


def play_envelope(session: Session, extensions: tuple[str, ...]) -> _Steps:
    return _Steps(session, pipelined=bool(extensions))


class _Steps:
    """Replies to MAIL, RCPT, DATA: each after its command, or all at once after the last."""

    def __init__(self, session: Session, *, pipelined: bool) -> None:
        self.session = session
        self.pipelined = pipelined

    async def play(self, *replies: str) -> None:
        """One reply for MAIL, one for each RCPT, one for DATA; as many as the client asks for if it goes stepwise."""
        commands = ["MAIL ", *["RCPT "] * (len(replies) - 2), "DATA"]
        if self.pipelined:
            await self.session.expect(*commands)
            self.session.say(*replies)
            return
        for command, reply in zip(commands, replies, strict=True):
            await self.session.expect(command)
            assert not self.session.ahead, "the client did not wait for the reply"
            self.session.say(reply)


@PIPELINING
async def test_a_message_is_accepted_by_the_reply_to_the_dot(relay: Relay, extensions: tuple[str, ...]) -> None:
    async def script(session: Session) -> None:
        await session.greet(*extensions)
        await play_envelope(session, extensions).play("250 ok", "250 ok", "354 go")
        assert await session.message() == BODY + b".\r\n"
        session.say("250 2.0.0 queued as 42")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN)
        assert await transport.deliver(delivery) == {ANN: Accepted(Reply(250, "2.0.0", "queued as 42"))}
        assert delivery.locked == [(ANN,)]
        await transport.logoff()


@PIPELINING
async def test_every_recipient_keeps_its_own_reply_and_only_those_taken_are_locked(
    relay: Relay, extensions: tuple[str, ...]
) -> None:
    async def script(session: Session) -> None:
        await session.greet(*extensions)
        steps = play_envelope(session, extensions)
        await steps.play("250 ok", "250 ok", "450 4.2.1 busy", "550 5.1.1 unknown", "354 go")
        await session.message()
        session.say("250 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN, BOB, CAT)
        assert await transport.deliver(delivery) == {
            ANN: Accepted(Reply(250, None, "ok")),
            BOB: Deferred(Reply(450, "4.2.1", "busy")),
            CAT: Rejected(Reply(550, "5.1.1", "unknown")),
        }
        assert delivery.locked == [(ANN,)]
        await transport.logoff()


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("451 4.3.0 later", Deferred(Reply(451, "4.3.0", "later"))),
        ("554 5.7.1 spam", Rejected(Reply(554, "5.7.1", "spam"))),
    ],
)
async def test_the_reply_to_the_dot_decides_for_all_who_are_locked(
    relay: Relay, reply: str, outcome: Deferred | Rejected
) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope(recipients=2)
        await session.message()
        session.say(reply)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert await transport.deliver(FakeDelivery(ANN, BOB)) == {ANN: outcome, BOB: outcome}
        await transport.logoff()


@PIPELINING
@pytest.mark.parametrize(("reply", "kind"), [("452 4.3.1 full", Deferred), ("550 5.7.1 no", Rejected)])
async def test_a_refused_mail_command_settles_everyone_and_the_session_goes_on(
    relay: Relay, extensions: tuple[str, ...], reply: str, kind: type
) -> None:
    async def script(session: Session) -> None:
        await session.greet(*extensions)
        if extensions:
            await session.expect("MAIL", "RCPT", "RCPT", "DATA")
            session.say(reply, "503 no", "503 no", "503 no")
        else:
            await session.expect("MAIL")
            session.say(reply)
        await play_envelope(session, extensions).play("250 ok", "250 ok", "354 go")
        await session.message()
        session.say("250 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        outcomes = await transport.deliver(FakeDelivery(ANN, BOB))
        assert {type(outcome) for outcome in outcomes.values()} == {kind}
        assert isinstance((await transport.deliver(FakeDelivery(ANN)))[ANN], Accepted)
        await transport.logoff()


@PIPELINING
@pytest.mark.parametrize(("reply", "kind"), [("451 4.3.0 later", Deferred), ("554 5.3.4 no", Rejected)])
async def test_a_refused_data_command_settles_those_who_were_taken_and_the_transaction_is_reset(
    relay: Relay, extensions: tuple[str, ...], reply: str, kind: type
) -> None:
    async def script(session: Session) -> None:
        await session.greet(*extensions)
        await play_envelope(session, extensions).play("250 ok", "250 ok", "550 5.1.1 who", reply)
        await session.expect("RSET")
        session.say("250 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN, BOB)
        outcomes = await transport.deliver(delivery)
        assert isinstance(outcomes[ANN], kind)
        assert outcomes[BOB] == Rejected(Reply(550, "5.1.1", "who"))
        assert delivery.locked == []
        await transport.logoff()


@PIPELINING
async def test_after_all_recipients_were_refused_the_session_is_reset_and_used_again(
    relay: Relay, extensions: tuple[str, ...]
) -> None:
    async def script(session: Session) -> None:
        await session.greet(*extensions)
        if extensions:
            await session.expect("MAIL", "RCPT", "DATA")
            session.say("250 ok", "550 who", "554 no valid recipients")
        else:
            await session.expect("MAIL")
            session.say("250 ok")
            await session.expect("RCPT")
            session.say("550 who")
        await session.expect("RSET")
        session.say("250 ok")
        await play_envelope(session, extensions).play("250 ok", "250 ok", "354 go")
        await session.message()
        session.say("250 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert isinstance((await transport.deliver(FakeDelivery(ANN)))[ANN], Rejected)
        assert isinstance((await transport.deliver(FakeDelivery(BOB)))[BOB], Accepted)
        await transport.logoff()


async def test_no_dot_is_sent_where_data_was_let_in_without_a_recipient(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL", "RCPT", "DATA")
        session.say("250 ok", "550 who", "354 go")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert await transport.deliver(FakeDelivery(ANN)) == {ANN: Rejected(Reply(550, None, "who"))}
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"
        assert server.sessions[0].read.endswith(b"DATA\r\n")


CLOSING = "421 4.3.2 closing"


@PIPELINING
@pytest.mark.parametrize(
    "replies",
    [
        (CLOSING,),
        ("250 ok", CLOSING),
        ("250 ok", "250 ok", CLOSING),
        ("250 ok", "250 ok", "250 ok", CLOSING),
    ],
    ids=["at MAIL", "at the first RCPT", "at the second RCPT", "at DATA"],
)
async def test_421_defers_at_every_step_of_the_envelope_and_ends_the_session(
    relay: Relay, extensions: tuple[str, ...], replies: tuple[str, ...]
) -> None:
    async def script(session: Session) -> None:
        await session.greet(*extensions)
        for command, reply in zip(("MAIL", "RCPT", "RCPT", "DATA"), replies, strict=False):
            await session.expect(command)
            session.say(reply)  # and the connection stays open

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN, BOB)
        closing = Deferred(Reply(421, "4.3.2", "closing"))
        assert await transport.deliver(delivery) == {ANN: closing, BOB: closing}
        assert delivery.locked == []
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"


async def test_421_after_the_dot_is_a_temporary_refusal_and_ends_the_session(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.message()
        session.say(CLOSING)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert await transport.deliver(FakeDelivery(ANN)) == {ANN: Deferred(Reply(421, "4.3.2", "closing"))}
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"


async def test_a_refusal_given_before_421_stands(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL", "RCPT", "RCPT", "DATA")
        session.say("250 ok", "550 5.1.1 who", CLOSING)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        outcomes = await transport.deliver(FakeDelivery(ANN, BOB))
        assert outcomes == {
            ANN: Rejected(Reply(550, "5.1.1", "who")),
            BOB: Deferred(Reply(421, "4.3.2", "closing")),
        }


@PIPELINING
@pytest.mark.parametrize(
    "replies",
    [
        ("354 what", "250 ok", "250 ok"),
        ("250 ok", "354 what", "503 no"),
        ("250 ok", "250 ok", "250 what"),
        ("250 ok", "250 ok", "334 what"),
    ],
    ids=["to MAIL", "to RCPT", "2yz to DATA", "3yz to DATA"],
)
async def test_a_reply_of_the_wrong_kind_defers_and_ends_the_session(
    relay: Relay, extensions: tuple[str, ...], replies: tuple[str, ...]
) -> None:
    async def script(session: Session) -> None:
        await session.greet(*extensions)
        await play_envelope(session, extensions).play(*replies)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN)
        outcome = (await transport.deliver(delivery))[ANN]
        assert isinstance(outcome, Deferred)
        assert "unexpected reply" in outcome.reply.text
        assert delivery.locked == []
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"


MALFORMED = {
    "no code": b"hello\r\n",
    "code out of range": b"650 what\r\n",
    "no separator": b"250ok\r\n",
    "bare LF": b"250 ok\n",
    "bare CR": b"250 o\rk\r\n",
    "two codes": b"250-ok\r\n251 ok\r\n",
    "an endless line": b"250 " + b"x" * 5000,
    "endless lines": b"250-x\r\n" * 150,
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_reply_before_the_dot_defers_and_ends_the_session(relay: Relay, octets: bytes) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL", "RCPT", "DATA")
        session.say_raw(octets)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        outcome = (await transport.deliver(FakeDelivery(ANN)))[ANN]
        assert isinstance(outcome, Deferred)
        assert "protocol error" in outcome.reply.text
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"


@pytest.mark.parametrize("octets", [*MALFORMED.values(), b"354 more\r\n"], ids=[*MALFORMED, "3yz"])
async def test_an_unintelligible_reply_to_the_dot_leaves_the_message_in_doubt(relay: Relay, octets: bytes) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.message()
        session.say_raw(octets)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert isinstance((await transport.deliver(FakeDelivery(ANN)))[ANN], InDoubt)
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"


@pytest.mark.parametrize("octets", [b"", b"2", b"250 2.0.0 o", b"250-first\r\n"])
async def test_a_connection_lost_after_the_dot_leaves_the_message_in_doubt(relay: Relay, octets: bytes) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.message()
        session.say_raw(octets)
        session.close()

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        outcome = (await transport.deliver(FakeDelivery(ANN)))[ANN]
        assert isinstance(outcome, InDoubt)
        assert "lost while waiting for the reply to the end of data" in outcome.reason


async def test_a_well_formed_reply_to_the_dot_counts_whatever_follows_it(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.message()
        session.say_raw(b"250 ok\r\n250 and again\r\nrubbish")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert await transport.deliver(FakeDelivery(ANN)) == {ANN: Accepted(Reply(250, None, "ok"))}
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"


@pytest.mark.parametrize("replies", [(), ("250 ok",), ("250 ok", "250 ok"), ("250 ok", "250 ok", "354 go")])
async def test_a_connection_lost_before_the_dot_defers(relay: Relay, replies: tuple[str, ...]) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL", "RCPT", "DATA")
        session.say(*replies)
        session.close()

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN, content=MEGABYTES)
        outcome = (await transport.deliver(delivery))[ANN]
        assert isinstance(outcome, Deferred)
        assert "lost" in outcome.reply.text
        assert delivery.locked == []


@pytest.mark.parametrize(
    ("early", "outcome"),
    [
        ("421 4.3.2 closing", Deferred(Reply(421, "4.3.2", "closing"))),
        ("451 4.3.0 full", Deferred(Reply(451, "4.3.0", "full"))),
        ("552 5.3.4 too big", Rejected(Reply(552, "5.3.4", "too big"))),
        ("500 what", Deferred(Reply.local("4.5.0", "a reply that was not asked for: 500 what"))),
        ("250 ok", Deferred(Reply.local("4.5.0", "a reply that was not asked for: 250 ok"))),
    ],
)
async def test_a_reply_in_the_midst_of_the_data_stops_the_upload(
    relay: Relay, early: str, outcome: Deferred | Rejected
) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.octets(1_000_000)
        session.say(early)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN, content=MEGABYTES)
        assert await transport.deliver(delivery) == {ANN: outcome}
        assert delivery.locked == []
        assert delivery.contents_closed == 1
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"
        assert DOT not in server.sessions[0].read
        assert len(server.sessions[0].read) < delivery.size


@pytest.mark.parametrize("content", [BODY, MEGABYTES], ids=["small", "megabytes"])
async def test_the_message_is_there_to_its_last_crlf_when_the_lock_is_taken_and_the_dot_is_not(
    relay: Relay, content: bytes | list[bytes]
) -> None:
    arrived = asyncio.Event()
    delivery = FakeDelivery(ANN, content=content)

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.octets(delivery.size)
        arrived.set()
        await session.octets(3)
        session.say("250 ok")

    async def lock(_recipients: Collection[Recipient]) -> None:
        await arrived.wait()
        assert server.sessions[0].read.endswith(delivery.chunks[-1])

    delivery.on_lock = lock
    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        assert isinstance((await transport.deliver(delivery))[ANN], Accepted)
        await transport.logoff()


@pytest.mark.parametrize("content", [BODY, MEGABYTES], ids=["small", "megabytes"])
async def test_a_refused_lock_breaks_the_connection_without_a_dot_or_an_orderly_end(
    relay: Relay, content: bytes | list[bytes]
) -> None:
    delivery = FakeDelivery(ANN, BOB, content=content, on_lock=withdrawn)

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope(recipients=2)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        with pytest.raises(Withdrawn) as caught:
            await transport.deliver(delivery)
        assert caught.value.recipients == (ANN,)
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"
        assert DOT not in server.sessions[0].read


@pytest.mark.parametrize("content", [BODY, MEGABYTES], ids=["small", "megabytes"])
async def test_a_task_cancelled_while_it_waits_for_the_lock_never_sends_the_dot(
    relay: Relay, content: bytes | list[bytes]
) -> None:
    delivery = FakeDelivery(ANN, content=content, on_lock=forever)

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.octets(delivery.size)

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        task = asyncio.ensure_future(transport.deliver(delivery))
        await delivery.lock_entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"
        assert DOT not in server.sessions[0].read


async def test_a_task_cancelled_with_megabytes_under_way_never_sends_the_dot(relay: Relay) -> None:
    arrived = asyncio.Event()
    resume = asyncio.Event()
    delivery = FakeDelivery(ANN, content=MEGABYTES)

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.octets(2_000_000)
        arrived.set()
        await resume.wait()  # reads no more: the client's buffers are full when it is cancelled

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        task = asyncio.ensure_future(transport.deliver(delivery))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        resume.set()
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"
        assert DOT not in server.sessions[0].read
        assert delivery.locked == []
        assert delivery.contents_closed == 1


async def test_a_task_cancelled_after_the_dot_breaks_the_connection(relay: Relay) -> None:
    arrived = asyncio.Event()

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.message()
        arrived.set()

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        task = asyncio.ensure_future(transport.deliver(FakeDelivery(ANN)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"


async def test_content_that_cannot_be_read_breaks_the_connection_without_a_dot(relay: Relay) -> None:
    class Lost(FakeDelivery):
        async def content(self) -> AsyncIterator[bytes]:
            yield MEGABYTES[0]
            raise LookupError("lost")

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = Lost(ANN, content=MEGABYTES)
        with pytest.raises(LookupError):
            await transport.deliver(delivery)
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"
        assert DOT not in server.sessions[0].read
        assert delivery.locked == []


@pytest.mark.parametrize(
    ("last_word", "outcome"),
    [
        ("421 4.3.2 closing", Deferred(Reply(421, "4.3.2", "closing"))),
        ("554 5.7.1 spam", Rejected(Reply(554, "5.7.1", "spam"))),
    ],
)
async def test_a_server_that_gives_up_while_the_lock_is_taken_gets_no_dot(
    relay: Relay, last_word: str, outcome: Deferred | Rejected
) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()

    async def lock(_recipients: Collection[Recipient]) -> None:
        session = server.sessions[0]
        session.say(last_word)
        await session.over.wait()  # the client has heard it

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN, on_lock=lock)
        assert await transport.deliver(delivery) == {ANN: outcome}
        assert delivery.locked == [(ANN,)]
        assert DOT not in server.sessions[0].read


@PIPELINING
async def test_a_server_that_never_answers_the_envelope_defers(relay: Relay, extensions: tuple[str, ...]) -> None:
    async def script(session: Session) -> None:
        await session.greet(*extensions)
        await session.expect("MAIL")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, timeout=0.05)
        outcome = (await transport.deliver(FakeDelivery(ANN)))[ANN]
        assert isinstance(outcome, Deferred)
        assert "timed out waiting for the repl" in outcome.reply.text
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"


async def test_a_server_that_never_answers_the_dot_leaves_the_message_in_doubt(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        await session.message()

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, timeout=0.05)
        outcome = InDoubt("4.4.2 timed out waiting for the reply to the end of data")
        assert await transport.deliver(FakeDelivery(ANN)) == {ANN: outcome}


async def test_a_server_that_stops_reading_the_data_defers(relay: Relay) -> None:
    done = asyncio.Event()

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        session.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await done.wait()
        session.writer.transport.resume_reading()  # type: ignore[attr-defined]

    async with ScriptedServer(script) as server:
        transport = await relay(server.port, timeout=0.2)
        delivery = FakeDelivery(ANN, content=MEGABYTES)
        assert await transport.deliver(delivery) == {
            ANN: Deferred(Reply.local("4.4.2", "timed out waiting for the server to take the data"))
        }
        assert delivery.locked == []
        done.set()


async def test_a_server_that_stops_reading_and_hangs_up_defers_at_once(relay: Relay) -> None:
    done = asyncio.Event()

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        session.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (client,) = transport._pool._all
        while not client._paused:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        session.writer.write_eof()
        await done.wait()
        session.writer.transport.resume_reading()  # type: ignore[attr-defined]

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN, content=MEGABYTES)
        outcome = (await transport.deliver(delivery))[ANN]
        assert isinstance(outcome, Deferred)
        assert "lost while waiting for the server to take the data" in outcome.reply.text
        assert delivery.locked == []
        done.set()


async def test_552_after_other_recipients_were_taken_means_too_many_and_defers(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL", "RCPT", "RCPT", "RCPT", "DATA")
        session.say("250 ok", "250 ok", "552 too many recipients", "552 5.2.2 mailbox full", "354 go")
        await session.message()
        session.say("250 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        outcomes = await transport.deliver(FakeDelivery(ANN, BOB, CAT))
        assert isinstance(outcomes[ANN], Accepted)
        assert isinstance(outcomes[BOB], Deferred)
        assert isinstance(outcomes[CAT], Rejected)
        await transport.logoff()


async def test_a_server_that_wants_a_login_first_defers_since_the_message_is_not_at_fault(relay: Relay) -> None:
    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL", "RCPT", "DATA")
        session.say("530 5.7.0 authentication required", "503 no", "503 no")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        reply = Reply(530, "5.7.0", "authentication required")
        assert await transport.deliver(FakeDelivery(ANN)) == {ANN: Deferred(reply, destination_down=True)}
        await transport.logoff()


async def test_a_hundred_thousand_octets_of_envelope_do_not_block_either_side(relay: Relay) -> None:
    many = [Recipient(number, f"recipient-with-quite-a-long-name-{number}@example.com") for number in range(3000)]

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL")
        session.say("250 ok")
        for _ in many:
            await session.expect("RCPT")
            session.say("250 2.1.5 recipient ok, " + "x" * 100)
        await session.expect("DATA")
        session.say("354 go")
        await session.message()
        session.say("250 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        outcomes = await transport.deliver(FakeDelivery(*many))
        assert len(outcomes) == 3000
        assert {type(outcome) for outcome in outcomes.values()} == {Accepted}
        await transport.logoff()


async def test_what_a_server_decodes_is_the_message_with_its_line_endings_in_order(relay: Relay) -> None:
    received = bytearray()

    async def script(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        received.extend(await session.message())
        session.say("250 ok")

    async with ScriptedServer(script) as server:
        transport = await relay(server.port)
        delivery = FakeDelivery(ANN, content=[b"a: b\n\n.", b"x\r", b"\n.\n", b"y\r.\r\n\n..z"], size=100_000)
        assert isinstance((await transport.deliver(delivery))[ANN], Accepted)
        assert bytes(received) == b"a: b\r\n\r\n..x\r\n..\r\ny\r\n..\r\n\r\n...z\r\n.\r\n"
        await transport.logoff()
