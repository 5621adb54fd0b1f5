"""Sessions that are used again, and those that must not be."""

from __future__ import annotations

import asyncio

import pytest

from spoold.provider import Accepted, Deferred, Outcome, Reply
from spoold_smtp import SmtpTransport, connection
from tests.transports.smtp.conftest import Relay
from tests.transports.smtp.doubles import ANN, FakeDelivery, ScriptedServer, Session


async def transaction(session: Session) -> None:
    await session.envelope()
    await session.message()
    session.say("250 ok")


async def one(session: Session) -> None:
    """A session with one transaction."""
    await session.greet("PIPELINING")
    await transaction(session)


async def deliver(transport: SmtpTransport) -> Outcome:
    return (await transport.deliver(FakeDelivery(ANN)))[ANN]


async def test_an_idle_session_is_used_again(relay: Relay) -> None:
    async def three(session: Session) -> None:
        await session.greet("PIPELINING")
        for _ in range(3):
            await transaction(session)

    async with ScriptedServer(three) as server:
        transport = await relay(server.port)
        for _ in range(3):
            assert isinstance(await deliver(transport), Accepted)
        await transport.logoff()
        assert server.sessions[0].quit


async def test_two_deliveries_at_once_have_a_session_each(relay: Relay) -> None:
    arrived = [asyncio.Event(), asyncio.Event()]

    async def both(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.envelope()
        arrived[server.sessions.index(session)].set()
        await asyncio.gather(*(event.wait() for event in arrived))
        await session.message()
        session.say("250 ok")

    async with ScriptedServer(both, both) as server:
        transport = await relay(server.port)
        outcomes = await asyncio.gather(deliver(transport), deliver(transport))
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        await transport.logoff()


async def test_a_session_is_given_up_after_its_number_of_messages(relay: Relay) -> None:
    async with ScriptedServer(one, one) as server:
        transport = await relay(server.port, messages_per_connection=1)
        assert isinstance(await deliver(transport), Accepted)
        assert isinstance(await deliver(transport), Accepted)
    assert [session.quit for session in server.sessions] == [True, True]


async def test_a_session_is_given_up_when_it_is_old(relay: Relay) -> None:
    async def age(_: object) -> None:
        for session in transport._pool._all:
            session.opened_at -= 300

    async with ScriptedServer(one) as server:
        transport = await relay(server.port)
        assert isinstance((await transport.deliver(FakeDelivery(ANN, on_lock=age)))[ANN], Accepted)
    assert server.sessions[0].quit


async def test_an_idle_session_ends_with_quit(relay: Relay) -> None:
    async with ScriptedServer(one) as server:
        transport = await relay(server.port, connection_idle_time=0.02)
        assert isinstance(await deliver(transport), Accepted)
    assert server.sessions[0].quit


@pytest.mark.parametrize("words", [b"421 idle for too long\r\n", b"250 hello\r\n", b"2"])
async def test_an_idle_session_whose_server_says_anything_is_dropped(relay: Relay, words: bytes) -> None:
    said = asyncio.Event()

    async def talkative(session: Session) -> None:
        await one(session)
        await said.wait()
        session.say_raw(words)

    async with ScriptedServer(talkative, one) as server:
        transport = await relay(server.port, connection_idle_time=3600)
        assert isinstance(await deliver(transport), Accepted)
        said.set()
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"
        assert isinstance(await deliver(transport), Accepted)
        await transport.logoff()


async def test_an_idle_session_that_the_server_closed_is_not_used_again(relay: Relay) -> None:
    async def closing(session: Session) -> None:
        await one(session)
        session.close()

    async with ScriptedServer(closing, one) as server:
        transport = await relay(server.port)
        assert isinstance(await deliver(transport), Accepted)
        await server.sessions[0].over.wait()
        assert isinstance(await deliver(transport), Accepted)
        await transport.logoff()


@pytest.mark.parametrize("end", ["close", "reset", "421"])
async def test_a_session_found_dead_at_mail_is_replaced_and_that_is_no_failed_attempt(relay: Relay, end: str) -> None:
    async def dies(session: Session) -> None:
        await one(session)
        await session.expect("MAIL")
        if end == "421":
            session.say("421 4.4.2 idle for too long")
        else:
            getattr(session, end)()

    async with ScriptedServer(dies, one) as server:
        transport = await relay(server.port)
        assert isinstance(await deliver(transport), Accepted)
        delivery = FakeDelivery(ANN)
        assert isinstance((await transport.deliver(delivery))[ANN], Accepted)
        assert delivery.locked == [(ANN,)]
        await transport.logoff()


async def test_a_fresh_session_that_dies_at_mail_defers(relay: Relay) -> None:
    async def dies_at_second(session: Session) -> None:
        await one(session)
        await session.expect("MAIL")
        session.reset()

    async def dies_at_once(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL")
        session.reset()

    async with ScriptedServer(dies_at_second, dies_at_once) as server:
        transport = await relay(server.port)
        assert isinstance(await deliver(transport), Accepted)
        assert isinstance(await deliver(transport), Deferred)


async def test_a_session_lost_after_mail_was_accepted_is_a_failed_attempt(relay: Relay) -> None:
    async def dies_later(session: Session) -> None:
        await one(session)
        await session.expect("MAIL", "RCPT", "DATA")
        session.say("250 ok")
        session.close()

    async with ScriptedServer(dies_later) as server:
        transport = await relay(server.port)
        assert isinstance(await deliver(transport), Accepted)
        assert isinstance(await deliver(transport), Deferred)


async def test_a_server_that_does_not_answer_rset_is_left_with_the_outcomes_kept(relay: Relay) -> None:
    async def no_rset(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL", "RCPT", "DATA")
        session.say("250 ok", "450 4.2.1 busy", "503 no")
        await session.expect("RSET")
        session.say("502 what")

    async with ScriptedServer(no_rset) as server:
        transport = await relay(server.port)
        assert await deliver(transport) == Deferred(Reply(450, "4.2.1", "busy"))
        await server.sessions[0].over.wait()
        assert server.sessions[0].end == "reset"


async def test_logoff_does_not_wait_long_for_a_server_that_ignores_quit(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "QUIT_SECONDS", 0.05)

    async def deaf(session: Session) -> None:
        await one(session)
        await session.expect("QUIT")

    async with ScriptedServer(deaf) as server:
        transport = await relay(server.port)
        assert isinstance(await deliver(transport), Accepted)
        await transport.logoff()
    assert server.sessions[0].end == "reset"


async def test_logoff_cuts_a_transaction_that_is_still_under_way(relay: Relay) -> None:
    arrived = asyncio.Event()

    async def slow(session: Session) -> None:
        await session.greet("PIPELINING")
        await session.expect("MAIL")
        arrived.set()

    async with ScriptedServer(slow) as server:
        transport = await relay(server.port)
        task = asyncio.ensure_future(deliver(transport))
        await arrived.wait()
        await transport.logoff()
        assert isinstance(await task, Deferred)
    assert server.sessions[0].end == "reset"
