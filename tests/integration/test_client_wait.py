"""Waiting for the end of a message: woken by whoever commits, never by a message's own disappearance surprised."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from both import KINDS, Both
from hand import Hand
from queues import HeldClock

from spoold import NotFound, WaitTimeout
from spoold.lifecycle import Event
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nCc: bob@example.org\nSubject: hello\n\nhello\n"
ANN, BOB = "ann@example.com", "bob@example.org"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create(QueuePath.of(tmp_path / "queue.db"))
    return tmp_path / "queue.db"


@pytest.fixture
def hand(queue: Path) -> Iterator[Hand]:
    hand = Hand(queue)
    yield hand
    hand.close()


class Pauses:
    """Stands in for sleeping: each pause moves the clock, and does what the test has planned for it."""

    def __init__(self, spool: Both) -> None:
        self.seconds: list[float] = []
        self.plan: list[Callable[[], object]] = []
        self.clock = spool.spool._clock = HeldClock()
        spool.spool._pause = self._pause  # type: ignore[method-assign]

    async def _pause(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.clock.advance(seconds)
        if self.plan:
            self.plan.pop(0)()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def spool(request: pytest.FixtureRequest, queue: Path) -> AsyncIterator[Both]:
    async with Both(request.param, queue) as both:
        yield both


@pytest.fixture
def pauses(spool: Both) -> Pauses:
    return Pauses(spool)


async def test_a_settled_message_is_returned_at_once(spool: Both, pauses: Pauses) -> None:
    entry_id = await spool.submit(PLAIN)
    await spool.abort(entry_id)
    assert (await spool.wait(entry_id)).state == "aborted"
    assert await spool.wait(entry_id, timeout=0) == await spool.get(entry_id)
    assert pauses.seconds == []


async def test_it_ends_when_another_connection_settles_the_last_recipient(
    spool: Both, pauses: Pauses, hand: Hand
) -> None:
    entry_id = await spool.submit(PLAIN)
    pauses.plan = [lambda: None, lambda: hand.send(ANN), lambda: None, lambda: hand.fail(BOB)]
    record = await spool.wait(entry_id, timeout=60)
    assert record.state == "partial"
    assert len(pauses.seconds) == 4
    assert pauses.seconds == sorted(pauses.seconds)
    assert pauses.seconds[0] <= 0.001


async def test_pauses_grow_to_50_milliseconds_and_end_with_the_timeout(spool: Both, pauses: Pauses) -> None:
    entry_id = await spool.submit(PLAIN, hold=True)
    with pytest.raises(WaitTimeout, match=f"{entry_id} was not settled within 2 seconds"):
        await spool.wait(entry_id, timeout=2)
    assert max(pauses.seconds) == 0.05
    assert sum(pauses.seconds) == pytest.approx(2)
    with pytest.raises(WaitTimeout):
        await spool.wait(entry_id, timeout=0)


async def test_only_a_commit_makes_it_look_at_the_message_again(
    spool: Both, pauses: Pauses, queue: Path, hand: Hand
) -> None:
    entry_id = await spool.submit(PLAIN)
    looks: list[str] = []
    other = sqlite3.connect(queue, isolation_level=None)
    pauses.plan = [
        *[lambda: None] * 5,
        lambda: other.execute("CREATE TABLE application (x)"),
        *[lambda: None] * 5,
        hand.send,
    ]
    original = spool.spool._perform

    async def watched(operation, durable=False):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        looks.append(getattr(operation, "__name__", ""))
        return await original(operation, durable)

    spool.spool._perform = watched  # type: ignore[method-assign]
    assert (await spool.wait(entry_id)).state == "sent"
    other.close()
    assert looks.count("pulse") == 13
    assert len(looks) - looks.count("pulse") == 3 + 3  # the beginning, three looks, the end


async def test_a_message_deleted_while_waiting_is_told_with_all_its_properties(
    spool: Both, pauses: Pauses, hand: Hand
) -> None:
    entry_id = await spool.submit(PLAIN, delete_after_submit=True, priority="high")
    pauses.plan = [lambda: hand.send(ANN), lambda: hand.send(BOB)]
    record = await spool.wait(entry_id)
    assert (record.state, record.subject, record.priority, record.message_flags) == ("sent", "hello", "high", 0x23)
    assert [(r.address, r.kind, r.state, r.responsibility) for r in record.recipients] == [
        (ANN, "to", "sent", True),
        (BOB, "cc", "sent", True),
    ]
    assert record.recipients[0].last_reply is not None
    assert record.recipients[0].last_reply.code == 250
    assert [e.kind for e in record.events] == ["submitted", "sent", "sent"]


async def test_a_message_deleted_before_the_wait_is_told_from_the_timeline(
    spool: Both, pauses: Pauses, hand: Hand
) -> None:
    entry_id = await spool.submit(PLAIN, delete_after_submit=True)
    hand.send()
    with pytest.raises(NotFound):
        await spool.get(entry_id)
    record = await spool.wait(entry_id)
    assert (record.entry_id, record.state, record.subject) == (entry_id, "sent", "")
    assert [(r.address, r.state) for r in record.recipients] == [(ANN, "sent"), (BOB, "sent")]
    assert record.client_submit_time == record.events[0].time
    assert pauses.seconds == []


async def test_what_fails_is_kept_in_spite_of_delete_after_submit(spool: Both, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN, delete_after_submit=True)
    hand.send(ANN)
    hand.fail(BOB)
    assert (await spool.wait(entry_id)).state == "partial"
    assert await spool.content(entry_id) == PLAIN


async def test_an_abort_through_the_same_spool_ends_the_wait(spool: Both, pauses: Pauses, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    connection = spool.spool._connection
    assert connection is not None
    underlying = getattr(
        connection, "_connection", connection
    )  # aiosqlite's; data_version does not see its own commits
    pauses.plan = [lambda: underlying.execute("UPDATE spoold_recipient SET state = 'aborted'")]
    assert (await spool.wait(entry_id)).state == "aborted"


async def test_a_lock_with_a_wish_is_waited_for(spool: Both, pauses: Pauses, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    locked = hand.lock()
    pauses.plan = [lambda: hand.settle(locked, Event.DOUBT), hand.send]
    record = await spool.wait(entry_id)
    assert (record.state, record.recipients[0].in_doubt) == ("sent", True)
