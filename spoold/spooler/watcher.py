"""Sees what other processes have written: new messages, aborts of what is in flight, a flush."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from spoold import eventlog
from spoold.store import spooling
from spoold.store.session import Session


class Watcher:
    """One task. `wake()` says that somebody has committed; what it was is read from the queue."""

    def __init__(
        self,
        reader: Session,
        *,
        placed: Callable[[], None],
        unchecked: Callable[[], None],
        withdrawn: Callable[[Iterable[int]], None],
        flushed: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._placed = placed
        self._unchecked = unchecked
        self._withdrawn = withdrawn
        self._flushed = flushed
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Somebody else has committed."""
        self._wake.set()

    async def run(self) -> None:
        """Read what has changed, for ever."""
        seq, _ = await self._look()
        while True:
            await self._wake.wait()
            self._wake.clear()
            newest, unchecked = await self._look()
            if unchecked:
                self._unchecked()
            if newest > seq:
                self._placed()
                withdrawn = await self._reader.rows(spooling.SQL.withdrawn_since, (seq,))
                if withdrawn:
                    self._withdrawn(id_ for (id_,) in withdrawn)
                if await self._reader.rows(spooling.SQL.flushed_since, (seq,)):
                    eventlog.flushed()
                    self._flushed()
            seq = newest

    async def _look(self) -> tuple[int, bool]:
        ((newest, unchecked),) = await self._reader.rows(spooling.SQL.look)
        return newest, bool(unchecked)
