"""A real queue on disk, a ledger that runs on it, and messages in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiosqlite

from spoold.clock import Clock
from spoold.lifecycle import InDoubtPolicy
from spoold.message import Addressee, prepare
from spoold.spooler.ledger import Ledger
from spoold.store import database, submission
from spoold.store.database import QueuePath
from spoold.store.session import AsyncSession, SyncSession, run
from spoold.store.spooling import Claimed, Settled

CONTENT = b"From: app@example.com\nTo: ann@example.com\nSubject: hello\n\nhello\n"
NOW = 1_800_000_000_000


class HeldClock(Clock):
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.milliseconds = NOW
        self.seconds = 1000.0

    def now(self) -> int:
        return self.milliseconds

    def monotonic(self) -> float:
        return self.seconds

    def random(self) -> float:
        return 0.5

    def advance(self, seconds: float) -> None:
        self.milliseconds += int(seconds * 1000)
        self.seconds += seconds


@dataclass
class Queue:
    """A queue's file, with a plain connection for the submitter's side."""

    where: QueuePath
    session: SyncSession
    clock: HeldClock = field(default_factory=HeldClock)

    @classmethod
    def at(cls, folder: Path) -> Queue:
        where = QueuePath.of(str(folder / "queue.db"))
        database.create(where)
        return cls(where, SyncSession(database.open_queue(where)))

    def submit(self, *recipients: str, content: bytes = CONTENT) -> str:
        named = [Addressee(address) for address in recipients or ("ann@example.com",)]
        message = prepare(content, recipients=named)
        return run(submission.submit(self.session, [message], self.clock.now())).entry_ids[0]

    def abort(self, entry_id: str) -> None:
        run(submission.abort(self.session, entry_id, self.clock.now()))

    def states(self) -> list[str]:
        return [str(state) for (state,) in self.rows("SELECT state FROM spoold_recipient ORDER BY id")]

    def rows(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        return run(self.session.rows(sql, parameters))

    def close(self) -> None:
        self.session.connection.close()


@dataclass
class RunningLedger:
    """A ledger whose loop runs, and what it has told."""

    ledger: Ledger = field(init=False)
    settled: list[Settled] = field(default_factory=list)
    changes: int = 0

    async def claim_all(self, limit: int = 100) -> list[Claimed]:
        return await self.ledger.claim(1, None, limit)


@contextlib.asynccontextmanager
async def running_ledger(queue: Queue, policy: InDoubtPolicy = InDoubtPolicy.RETRY) -> AsyncIterator[RunningLedger]:
    """The daemon's one writer on this queue, as incarnation 1."""
    async with aiosqlite.connect(**database.connect_arguments(queue.where)) as connection:
        for statement in database.pragmas():
            await connection.execute(statement)
        await connection.execute("PRAGMA busy_timeout = 50")
        running = RunningLedger()

        def changed() -> None:
            running.changes += 1

        running.ledger = Ledger(
            AsyncSession(connection), policy, queue.clock, settled=running.settled.extend, changed=changed
        )
        task = asyncio.create_task(running.ledger.run())
        try:
            yield running
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
