"""The daemon's one writer: gathers claims, locks and results that are waiting and commits them together.

A result is never lost: what cannot be written is kept and tried again, and nothing is claimed meanwhile. A lock that
cannot be committed is a lock not taken. The size of a group follows the load: while one commit is under way the next
group gathers; nothing ever waits for a group to grow.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from spoold import eventlog
from spoold.clock import Clock
from spoold.faults import NO_FAULTS, Faults, Point
from spoold.lifecycle import Event, InDoubtPolicy
from spoold.store import spooling
from spoold.store.session import Session, transaction
from spoold.store.spooling import Claimed, Result, Settled

T = TypeVar("T")
LOOK = 0.025  # seconds between looks for what other processes have committed
RETRY = (0.05, 5.0)  # seconds before an unwritable queue is tried again: at first, at most


@dataclass(eq=False, slots=True)
class _Claim:
    token: int
    destination: str | None
    limit: int
    answer: asyncio.Future[list[Claimed]]
    claimed: list[Claimed] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Lock:
    token: int
    recipients: Sequence[int]
    answer: asyncio.Future[Sequence[int]]
    refused: Sequence[int] = ()


@dataclass(eq=False, slots=True)
class _Write:
    operation: Callable[[Session], Awaitable[Any]]
    answer: asyncio.Future[Any]
    value: Any = None


@dataclass(eq=False, slots=True)
class _Batch:
    results: list[Result] = field(default_factory=list)
    locks: list[_Lock] = field(default_factory=list)
    writes: list[_Write] = field(default_factory=list)
    claims: list[_Claim] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.results or self.locks or self.writes or self.claims)


class Ledger:
    """Owns the connection that writes. `run()` must be running for anything to be answered."""

    def __init__(
        self,
        session: Session,
        policy: InDoubtPolicy,
        clock: Clock,
        *,
        settled: Callable[[Sequence[Settled]], None],
        changed: Callable[[], None],
        faults: Faults = NO_FAULTS,
    ) -> None:
        """`settled` is called after each commit with how results were applied, `changed` when others have committed."""
        self._session = session
        self._policy = policy
        self._clock = clock
        self._settled = settled
        self._changed = changed
        self._faults = faults
        self._waiting = _Batch()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._version: Any = None
        self.writable = True
        self.commits = 0

    # -- what others ask for -------------------------------------------------------------------------------------------

    async def claim(self, token: int, destination: str | None, limit: int) -> list[Claimed]:
        """Claim what is due at a destination (None: unrouted), at most `limit`; answered after the commit."""
        request = _Claim(token, destination, limit, asyncio.get_running_loop().create_future())
        self._waiting.claims.append(request)
        self._wake()
        return await request.answer

    async def lock(self, token: int, recipients: Sequence[int]) -> Sequence[int]:
        """Lock all of them, durably, or none; returns those that stood in the way: none means locked."""
        request = _Lock(token, recipients, asyncio.get_running_loop().create_future())
        self._waiting.locks.append(request)
        self._wake()
        return await request.answer

    def settle(self, results: Iterable[Result]) -> None:
        """Record results. Returns at once; they will be written, however long that takes."""
        self._waiting.results.extend(results)
        self._wake()

    async def write(self, operation: Callable[[Session], Awaitable[T]]) -> T:
        """Run an operation as part of the next commit; answered after it."""
        request = _Write(operation, asyncio.get_running_loop().create_future())
        self._waiting.writes.append(request)
        self._wake()
        return await request.answer  # type: ignore[no-any-return]

    async def flush(self) -> None:
        """Wait until everything that was asked for is written."""
        await self._idle.wait()

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit what is waiting, for ever."""
        loop = asyncio.get_running_loop()
        delay, next_look = RETRY[0], 0.0
        while True:
            if not self._work.is_set():
                timer = loop.call_later(LOOK, self._work.set)
                await self._work.wait()
                timer.cancel()
            self._work.clear()
            batch, self._waiting = self._waiting, _Batch()
            settled: list[Settled] = []
            try:
                if loop.time() >= next_look:
                    await self._look()
                    next_look = loop.time() + LOOK
                if batch:
                    settled = await self._commit(batch)
            except sqlite3.DatabaseError as error:
                if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)):
                    raise  # not the world's fault but ours
                self._keep(batch)
                if self.writable:
                    self.writable = False
                eventlog.queue_unwritable(error=str(error), retry_in=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY[1])
                continue
            if not self.writable:
                self.writable, delay = True, RETRY[0]
                eventlog.queue_writable()
            if batch:
                self._answer(batch, settled)
            if not self._waiting:
                self._idle.set()

    async def _look(self) -> None:
        """Our own commits do not change what this pragma says on our own connection; everybody else's do."""
        ((version,),) = await self._session.rows("PRAGMA data_version")
        if version != self._version:
            self._version = version
            self._changed()

    async def _commit(self, batch: _Batch) -> list[Settled]:
        settled: list[Settled] = []
        now = self._clock.now()
        async with transaction(self._session):
            # results before locks: a lock that was given up is not met by its own successor
            if batch.results:
                settled = await spooling.settle(self._session, batch.results, self._policy, now)
            locks = [request for request in batch.locks if not request.answer.cancelled()]
            for token in {request.token for request in locks}:
                mine = [request for request in locks if request.token == token]
                refused = await spooling.lock(self._session, token, [request.recipients for request in mine])
                for request, those in zip(mine, refused, strict=True):
                    request.refused = those
            batch.locks = locks
            for write in batch.writes:
                if not write.answer.cancelled():
                    write.value = await write.operation(self._session)
            for claim in batch.claims:
                if not claim.answer.cancelled():
                    claim.claimed = await spooling.claim(
                        self._session, claim.token, claim.destination, claim.limit, now
                    )
        self.commits += 1
        return settled

    def _keep(self, batch: _Batch) -> None:
        """After a failed commit: everything waits for the next one, but for the locks, which are not taken."""
        for request in batch.locks:
            if not request.answer.done():
                request.answer.set_result(request.recipients)
        newer = self._waiting
        self._waiting = _Batch(
            batch.results + newer.results, newer.locks, batch.writes + newer.writes, batch.claims + newer.claims
        )
        self._work.set()

    def _answer(self, batch: _Batch, settled: list[Settled]) -> None:
        for point, there in (
            (Point.CLAIM_COMMITTED, any(claim.claimed for claim in batch.claims)),
            (Point.LOCK_COMMITTED, batch.locks),
            (Point.RESULT_COMMITTED, settled),
        ):
            if there:
                self._faults.reach(point)
        for lock in batch.locks:
            if not lock.answer.done():  # else whoever asked was cancelled, and gives it back
                lock.answer.set_result(lock.refused)
        for claim in batch.claims:
            if not claim.answer.done():
                claim.answer.set_result(claim.claimed)
            else:
                self.settle(Result(row.id, claim.token, Event.GIVE_BACK) for row in claim.claimed)
        for write in batch.writes:
            if not write.answer.done():
                write.answer.set_result(write.value)
        if settled:
            self._settled(settled)
