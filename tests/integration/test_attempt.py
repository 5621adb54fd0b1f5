"""Whatever a provider does, every recipient gets an outcome, and before the lock that is never worse than a delay."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from queues import Queue, RunningLedger, running_ledger

from spoold.backoff import Backoff
from spoold.provider import Accepted, Deferred, Delivery, InDoubt, Rejected, Reply, TransportFault
from spoold.spooler import delivery as deliveries
from spoold.spooler.attempt import Attempts, Ending
from spoold.spooler.router import Choice

OK = Reply(250, "2.0.0", "taken")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue.at(tmp_path)
    yield made
    made.close()


class Provider:
    """Does what a test says."""

    def __init__(self, deliver: Any, lock: bool = False) -> None:
        self._deliver = deliver
        self._lock = lock

    async def deliver(self, delivery: Delivery) -> Any:
        if self._lock:
            await delivery.lock(delivery.recipients)
        if isinstance(self._deliver, BaseException):
            raise self._deliver
        return self._deliver(delivery) if callable(self._deliver) else self._deliver


async def attempt(queue: Queue, running: RunningLedger, provider: Any) -> Ending:
    queue.submit()
    claims = await running.claim_all()

    async def read(message: int, seq: int) -> bytes | None:
        return None

    delivery = deliveries.Delivery(claims, 1, Choice("p", "d", 1, False), running.ledger, read)
    ending = await Attempts(running.ledger, Backoff(), 3600, queue.clock).attempt(delivery, provider)
    await running.ledger.flush()
    return ending


def each(outcome: Any) -> Any:
    return lambda delivery: dict.fromkeys(delivery.recipients, outcome)


NO_REPLY: Any = "no"
STRANGE = [
    None,
    "550 no",
    7,
    each("550 no"),
    each(None),
    each(Rejected(NO_REPLY)),
    ValueError("x"),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize("deliver", [*STRANGE, TransportFault("no"), {}, TimeoutError()], ids=repr)
async def test_before_the_lock_a_strange_provider_costs_a_failed_attempt(queue: Queue, deliver: Any) -> None:
    async with running_ledger(queue) as running:
        await attempt(queue, running, Provider(deliver))
    assert queue.rows("SELECT state, attempts, in_doubt FROM spoold_recipient") == [("queued", 1, 0)]


@pytest.mark.parametrize("deliver", [*STRANGE, TransportFault("no"), {}, each(InDoubt("lost"))], ids=repr)
async def test_after_the_lock_it_leaves_a_doubt(queue: Queue, deliver: Any) -> None:
    async with running_ledger(queue) as running:
        await attempt(queue, running, Provider(deliver, lock=True))
    assert queue.rows("SELECT state, attempts, in_doubt FROM spoold_recipient") == [("queued", 1, 1)]


@pytest.mark.parametrize("outcome", [Accepted(OK), InDoubt("lost")])
async def test_an_acceptance_without_a_lock_is_recorded_as_a_doubt(queue: Queue, outcome: Any) -> None:
    async with running_ledger(queue) as running:
        await attempt(queue, running, Provider(each(outcome)))
    assert queue.rows("SELECT state, in_doubt FROM spoold_recipient") == [("in_doubt", 1)]


async def test_a_reply_replaces_the_one_before_as_a_whole(queue: Queue) -> None:
    async with running_ledger(queue) as running:
        await attempt(queue, running, Provider(each(Deferred(Reply(450, "4.2.1", "busy")))))
        queue.clock.advance(4000)
        queue.rows("UPDATE spoold_recipient SET destination = NULL")
        claims = await running.claim_all()
        assert claims
        delivery = deliveries.Delivery(claims, 1, Choice("p", "d", 1, False), running.ledger, lambda *_: None)  # type: ignore[arg-type]
        down = Deferred(Reply.local("4.4.1", "refused"))
        await Attempts(running.ledger, Backoff(), 1e6, queue.clock).attempt(delivery, Provider(each(down)))  # type: ignore[arg-type]
        await running.ledger.flush()
    assert queue.rows("SELECT reply_code, reply_enhanced, reply_text FROM spoold_recipient") == [
        (None, "4.4.1", "refused")
    ]
