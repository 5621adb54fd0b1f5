"""An open session on a transport that records, under a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from spoold.provider import Reply
from spoold_smtp.connection import HIGH_WATER, QUIT_SECONDS, Connection, Extensions


class Clock:
    """What a Connection uses of an event loop: the time, a timer, futures."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(when, callback)
        self.timers.append(timer)
        return timer

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    @property
    def armed(self) -> list[float]:
        return [timer.when for timer in self.timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while due := [timer for timer in self.timers if not timer.cancelled and timer.when <= self.now]:
            due[0].cancelled = True
            due[0].callback()


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.end = ""
        self.high = 0
        self.protocol: object = None

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def get_extra_info(self, _name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return bool(self.end)

    def write(self, data: bytes) -> None:
        assert not self.end, "written after the end"
        self.written += data

    def close(self) -> None:
        self.end = self.end or "closed"

    def abort(self) -> None:
        self.end = "aborted"


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.connection = Connection(
            cast(asyncio.Transport, self.wire),
            "relay.test:25",
            Extensions(),
            cast(asyncio.AbstractEventLoop, self.clock),
        )

    @property
    def broken(self) -> Reply | None:
        return self.connection.broken

    @property
    def end(self) -> str:
        return self.wire.end

    def is_open(self) -> bool:
        return not self.wire.end

    def started(self, awaitable: Any) -> asyncio.Task[Any]:
        return asyncio.ensure_future(awaitable)


async def turn() -> None:
    """Let the other tasks come to rest: each has at most two steps to go."""
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_connection_takes_the_transport_over_and_keeps_its_buffer_small(rig: Rig) -> None:
    assert rig.wire.protocol is rig.connection
    assert rig.wire.high == HIGH_WATER


async def test_a_buffer_that_empties_does_not_stand_for_a_reply(rig: Rig) -> None:
    rig.connection.ask(b"x" * 1000, 1, 60, "the reply")
    rig.connection.pause_writing()
    task = rig.started(rig.connection.answers())
    await turn()
    rig.connection.resume_writing()
    await turn()
    assert not task.done()
    rig.connection.data_received(b"250 ok\r\n")
    assert await task == [(250, b"ok")]


async def test_a_part_of_a_reply_does_not_stand_for_room_in_the_buffer(rig: Rig) -> None:
    rig.connection.pause_writing()
    task = rig.started(rig.connection.send(b"data", 60))
    await turn()
    rig.connection.data_received(b"4")
    await turn()
    assert not task.done()
    rig.connection.resume_writing()
    await task
    assert not rig.connection.check()
    assert rig.broken == Reply.local("4.5.0", "the server spoke unasked")
    assert rig.end == "aborted"


async def test_every_reply_has_the_full_time(rig: Rig) -> None:
    rig.connection.ask(b"MAIL, RCPT, DATA", 3, 60, "the replies")
    task = rig.started(rig.connection.answers())
    await turn()
    for _ in range(2):
        rig.clock.advance(50)
        rig.connection.data_received(b"250 ok\r\n")
    rig.clock.advance(59)
    assert rig.is_open()
    rig.clock.advance(1)
    assert rig.broken == Reply.local("4.4.2", "timed out waiting for the replies")
    assert await task == [(250, b"ok"), (250, b"ok")]
    assert rig.end == "aborted"


async def test_replies_that_have_come_do_not_grow_late(rig: Rig) -> None:
    rig.connection.ask(b"MAIL, RCPT, DATA", 1, 60, "the replies")
    rig.connection.data_received(b"354 go\r\n")
    rig.clock.advance(3600)  # the content is slow to come
    assert await rig.connection.answers() == [(354, b"go")]
    assert rig.connection.sound


async def test_octets_that_make_no_reply_do_not_buy_time(rig: Rig) -> None:
    rig.connection.ask(b"MAIL", 1, 60, "the reply")
    task = rig.started(rig.connection.answers())
    await turn()
    for octet in (b"2", b"5", b"0"):
        rig.clock.advance(20)
        rig.connection.data_received(octet)
    assert rig.broken is not None
    assert await task == []


async def test_one_timer_serves_a_whole_session(rig: Rig) -> None:
    for _ in range(100):
        rig.connection.ask(b"NOOP", 1, 300, "the reply")
        rig.connection.data_received(b"250 ok\r\n")
        await rig.connection.answers()
        rig.clock.advance(1)
    assert len(rig.clock.timers) == 1
    rig.clock.advance(1000)
    assert rig.connection.sound
    assert not rig.clock.armed


async def test_a_shorter_limit_is_kept_although_a_longer_one_is_running(rig: Rig) -> None:
    rig.connection.ask(b"DATA", 1, 300, "the reply")
    rig.connection.data_received(b"354 go\r\n")
    await rig.connection.answers()
    rig.connection.ask(b"RSET", 1, 20, "the reply to RSET")
    rig.clock.advance(20)
    assert rig.broken is not None


def test_an_idle_session_says_quit_when_its_time_is_up_and_is_cut_if_that_is_not_heard(rig: Rig) -> None:
    rig.connection.park(5)
    rig.clock.advance(4.9)
    assert rig.wire.written == b""
    rig.clock.advance(0.2)
    assert rig.wire.written == b"QUIT\r\n"
    assert not rig.connection.unpark()
    assert rig.is_open()
    rig.clock.advance(QUIT_SECONDS)
    assert rig.end == "aborted"


def test_the_reply_to_quit_closes_the_connection(rig: Rig) -> None:
    rig.connection.quit()
    rig.connection.quit()
    assert rig.wire.written == b"QUIT\r\n"
    rig.connection.data_received(b"221 bye\r\n")
    assert rig.end == "closed"
    rig.connection.connection_lost(None)
    assert not rig.clock.armed


def test_an_idle_session_found_broken_is_not_used(rig: Rig) -> None:
    rig.connection.park(5)
    rig.connection.data_received(b"421 bye\r\n")
    assert rig.end == "aborted"
    assert not rig.connection.unpark()
    rig.connection.quit()
    assert rig.wire.written == b""


def test_an_idle_session_that_is_closing_is_not_used(rig: Rig) -> None:
    rig.connection.park(5)
    rig.wire.close()
    assert not rig.connection.unpark()


def test_a_lost_connection_leaves_no_timer_and_tells_its_owner_once(rig: Rig) -> None:
    lost: list[Connection] = []
    rig.connection.on_lost(lost.append)
    rig.connection.park(5)
    rig.connection.connection_lost(ConnectionResetError(104, "Connection reset by peer"))
    assert lost == [rig.connection]
    assert not rig.clock.armed
    assert rig.broken == Reply.local("4.4.2", "connection to relay.test:25 lost: Connection reset by peer")


async def test_nothing_is_written_to_a_broken_connection(rig: Rig) -> None:
    rig.connection.break_off(Reply.local("4.4.2", "first"))
    rig.connection.break_off(Reply.local("4.4.2", "second"))
    rig.connection.ask(b"MAIL", 1, 60, "the reply")
    assert await rig.connection.answers() == []
    await rig.connection.send(b"data", 60)
    rig.connection.quit()
    rig.connection.data_received(b"250 ok\r\n")
    assert rig.wire.written == b""
    assert rig.broken == Reply.local("4.4.2", "first")


async def test_a_question_after_words_that_nobody_asked_for_is_not_put(rig: Rig) -> None:
    rig.connection.data_received(b"25")
    rig.connection.ask(b".\r\n", 1, 60, "the reply")
    assert rig.wire.written == b""
    assert rig.end == "aborted"
