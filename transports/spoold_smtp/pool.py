"""Idle sessions with one destination: the last one used is the first one used again.

How many there are at once is the spooler's business: the pool hands out an idle session or opens another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from spoold_smtp.connection import Connection


class Pool:
    """Sessions with one destination.

    `opener` opens one. A session is given up after `transactions` mail transactions, `lifetime` seconds after it was
    opened, or `idle_time` seconds after its last use.
    """

    def __init__(
        self,
        opener: Callable[[], Awaitable[Connection]],
        *,
        transactions: int,
        idle_time: float,
        lifetime: float,
    ) -> None:
        self._opener = opener
        self._transactions = transactions
        self._idle_time = idle_time
        self._lifetime = lifetime
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._all_gone = asyncio.Event()
        self._closed = False

    def idle(self) -> Connection | None:
        """An idle session that is sound, taken out of the pool; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.unpark():
                return connection
        return None

    async def open(self) -> Connection:
        """A new session, for `release()` to take. Raises what `opener` raises."""
        connection = await self._opener()
        self._all.add(connection)
        connection.on_lost(self._forget)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a session back: keep it, or say QUIT if it is old or of no use."""
        age = asyncio.get_running_loop().time() - connection.opened_at
        if (
            connection.sound
            and not self._closed
            and connection.transactions < self._transactions
            and age < self._lifetime
        ):
            connection.park(self._idle_time)
            self._idle.append(connection)
        else:
            connection.quit()

    async def close(self) -> None:
        """Say QUIT on every idle session, cut off the others, and wait until all are gone: two seconds at most."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.quit()
        for connection in self._all.difference(idle):
            connection.cut()
        while self._all:
            self._all_gone.clear()
            await self._all_gone.wait()

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._all:
            self._all_gone.set()
