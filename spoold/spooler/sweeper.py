"""Finds dead spoolers and frees what they had; beats for this one; expires what has waited too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from spoold import eventlog
from spoold.clock import Clock
from spoold.lifecycle import InDoubtPolicy
from spoold.spooler.incarnation import clear_away, is_dead
from spoold.spooler.ledger import Ledger
from spoold.store import spooling
from spoold.store.database import QueuePath
from spoold.store.session import Session
from spoold.store.spooling import SQL

LOOK = 1.0  # seconds between looks at the others
HOUSEKEEPING = 30.0  # seconds between looks for what has expired
ABANDONED = 24 * 3600 * 1000  # milliseconds after which an unfinished upload is dropped
JUMP = 10.0  # seconds by which the wall clock must have moved against the monotonic one


class Sweeper:
    """One task. `token` is this spooler's incarnation."""

    def __init__(
        self,
        where: QueuePath,
        ledger: Ledger,
        reader: Session,
        clock: Clock,
        *,
        policy: InDoubtPolicy,
        lease: float,
        give_up_after: float,
        longest_backoff: float,
        freed: Callable[[], None],
        declared_dead: Callable[[], Awaitable[None]],
    ) -> None:
        """Times in seconds. `freed`: there may be something to claim; `declared_dead`: this spooler was."""
        self._where = where
        self._ledger = ledger
        self._reader = reader
        self._policy = policy
        self._clock = clock
        self._lease = lease
        self._give_up_after = int(give_up_after * 1000)
        self._longest_backoff = int(longest_backoff * 1000)
        self._freed = freed
        self._declared_dead = declared_dead
        self._seen: dict[int, tuple[int, float]] = {}  # the others' beats, and when they last changed (monotonic)
        self._known: set[int] = set()
        self._offset = self._wall_offset()
        self.token = 0

    async def run(self) -> None:
        """Look after the queue, for ever."""
        next_beat = next_housekeeping = 0.0
        await self.pull_in()
        while True:
            now = self._clock.monotonic()
            if now >= next_beat:
                await self.beat()
                if self._clock.monotonic() - now > self._lease / 4:
                    self._seen.clear()  # who cannot commit himself does not judge others by their beats
                next_beat = now + self._lease / 4
            await self.look_at_others()
            if now >= next_housekeeping:
                await self.housekeeping()
                next_housekeeping = now + HOUSEKEEPING
            await asyncio.sleep(LOOK)

    async def beat(self) -> None:
        """Show that this spooler can commit; find out if it was declared dead."""
        token = self.token
        if not await self._ledger.write(lambda session: session.rows(SQL.beat, (token,))):
            await self._declared_dead()

    async def look_at_others(self) -> None:
        """Free what dead or stopped spoolers have."""
        now = self._clock.monotonic()
        others = await self._reader.rows(SQL.other_incarnations, (self.token,))
        ended = self._known - {row[0] for row in others}
        self._known = {row[0] for row in others}
        for id_ in ended:
            self._seen.pop(id_, None)
        if ended:  # in order: what it handed back is for the others
            self._freed()
        for id_, host, pid, mark, beat in others:
            if is_dead(self._where, mark):
                await self._recover(id_, mark, f"process {pid} on {host} has ended")
                continue
            last = self._seen.get(id_)
            if last is None or last[0] != beat:
                self._seen[id_] = (beat, now)
            elif now - last[1] > self._lease and self._ledger.writable:
                await self._recover(id_, None, f"process {pid} on {host} has not beaten for {self._lease:.0f} s")

    async def _recover(self, token: int, mark: str | None, reason: str) -> None:
        now, policy = self._clock.now(), self._policy
        freed = await self._ledger.write(lambda session: spooling.recover(session, token, policy, reason, now))
        if mark is not None:
            clear_away(self._where, mark)
        if freed is None:
            return
        marked = sum(1 for _, _, mark in freed if mark)
        eventlog.spooler_recovered(incarnation=token, reason=reason, freed=len(freed), in_doubt=marked)
        self._freed()

    async def housekeeping(self) -> None:
        """Expire what has waited too long, drop unfinished uploads, mend due times after a jump of the clock."""
        self._freed()  # whatever no hint told of
        now = self._clock.now()
        limit = 1000
        while True:
            expired = await self._ledger.write(
                lambda session: spooling.expire(session, now, now - self._give_up_after, limit)
            )
            if expired:
                eventlog.expired(count=expired)
            if expired < limit:
                break
        dropped = await self._ledger.write(lambda session: spooling.drop_abandoned(session, now - ABANDONED))
        if dropped:
            eventlog.abandoned_content(count=dropped)
        offset = self._wall_offset()
        if abs(offset - self._offset) > JUMP:
            self._offset = offset
            await self.pull_in()

    async def pull_in(self) -> None:
        """A retry further away than the longest back-off was set by a clock that was wrong: it is due now."""
        now = self._clock.now()
        latest = now + 2 * self._longest_backoff
        await self._ledger.write(lambda session: session.rows(SQL.pull_in, {"now": now, "latest": latest}))
        self._freed()

    def _wall_offset(self) -> float:
        return self._clock.now() / 1000 - self._clock.monotonic()
