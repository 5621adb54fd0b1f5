"""AsyncSpool: the outgoing queue for asyncio programs, on aiosqlite."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import aiosqlite

from spoold.client.joining import joined
from spoold.client.operations import Operation, Operations, as_message, listed, selected
from spoold.client.submitting import Content, Message, SubmitOptions
from spoold.errors import AbortResult, UsageError
from spoold.store.database import BUSY_TIMEOUT
from spoold.store.records import EventRecord, ListedMessage, MessageRecord, QueueStatus
from spoold.store.session import AsyncSession

T = TypeVar("T")
Listed = list[ListedMessage]  # `list` is a method below


class AsyncSpool(Operations):
    """Spool with await: the same arguments, results and errors; see there.

    Use it as an asynchronous context manager, or close it: an open connection keeps the process alive. Without the
    former it opens at the first operation. Tasks may share it, one operation runs at a time. An operation that has
    begun is not broken off by a cancellation, which is raised when it has ended: what was being submitted may have been
    stored, and a `key` makes it safe to submit it again.
    """

    def __init__(
        self, url: str | os.PathLike[str], durability: str = "full", *, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        super().__init__(url, durability, busy_timeout=busy_timeout)
        self._lock = asyncio.Lock()
        self._closed = False
        self._connection: aiosqlite.Connection | None = None

    # -- submitting and withdrawing ------------------------------------------------------------------------------------

    async def submit(
        self,
        message: Message | Content,
        *,
        connection: aiosqlite.Connection | None = None,
        **options: Unpack[SubmitOptions],
    ) -> str:
        """See Spool.submit."""
        return (await self._submit([as_message(message, options)], connection))[0]

    async def submit_many(
        self, messages: Iterable[Message | Content], *, connection: aiosqlite.Connection | None = None
    ) -> list[str]:
        """See Spool.submit_many."""
        return await self._submit(map(as_message, messages), connection)

    async def abort(self, entry_id: str, *, connection: aiosqlite.Connection | None = None) -> AbortResult:
        """See Spool.abort."""
        return await self._abort(entry_id, connection)

    async def abort_matching(
        self,
        *,
        sender: str | None = None,
        destination: str | None = None,
        all: bool = False,  # noqa: A002
    ) -> dict[str, AbortResult]:
        """See Spool.abort_matching."""
        return await self._abort_matching(selected(sender=sender, destination=destination, all_=all))

    async def hold(
        self,
        *entry_ids: str,
        destination: str | None = None,
        transport: str | None = None,
        all: bool = False,  # noqa: A002
    ) -> int:
        """See Spool.hold."""
        which = selected(entry_ids, destination=destination, transport=transport, all_=all)
        return await self._hold(entry_ids, which)

    async def release(
        self,
        *entry_ids: str,
        destination: str | None = None,
        transport: str | None = None,
        all: bool = False,  # noqa: A002
    ) -> int:
        """See Spool.release."""
        which = selected(entry_ids, destination=destination, transport=transport, all_=all)
        return await self._release(entry_ids, which)

    async def flush(self, *entry_ids: str, destination: str | None = None, transport: str | None = None) -> int:
        """See Spool.flush."""
        which = selected(entry_ids, destination=destination, transport=transport, all_=True)
        return await self._flush(entry_ids, which)

    # -- reading -------------------------------------------------------------------------------------------------------

    async def get(self, entry_id: str) -> MessageRecord:
        """See Spool.get."""
        return await self._get(entry_id)

    async def content(self, entry_id: str) -> bytes:
        """See Spool.content."""
        return await self._content(entry_id)

    async def wait(self, entry_id: str, timeout: float | None = None) -> MessageRecord:
        """See Spool.wait."""
        return await self._wait(entry_id, timeout)

    async def events(self, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        """See Spool.events."""
        return await self._events(after, limit)

    async def status(self) -> QueueStatus:
        """See Spool.status."""
        return await self._status()

    async def list(
        self,
        *,
        state: str | None = None,
        destination: str | None = None,
        sender: str | None = None,
        all: bool = False,  # noqa: A002
        limit: int | None = None,
    ) -> Listed:
        """See Spool.list."""
        return await self._list(listed(state, sender, destination, all), limit)

    # -- the connection ------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """See Spool.close."""
        async with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                await _to_its_end(connection.close())

    async def __aenter__(self) -> Self:
        async with self._lock:
            await _to_its_end(self._connected())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _connected(self) -> aiosqlite.Connection:
        if self._closed:
            raise UsageError("this AsyncSpool was closed: open another one")
        if self._connection is None:
            self._connection = await self._connect()
        return self._connection

    async def _connect(self) -> aiosqlite.Connection:
        failures: list[BaseException] = []

        def opened() -> sqlite3.Connection:
            try:
                return self._open()
            except BaseException as error:  # noqa: BLE001 - aiosqlite's thread must end in order: it is raised below
                failures.append(error)
                return sqlite3.connect(":memory:")

        connection = await aiosqlite.Connection(opened, iter_chunk_size=64)
        if failures:
            await connection.close()
            raise failures[0]
        return connection

    async def _perform(self, operation: Operation[T], durable: bool = False) -> T:
        async def opened() -> T:
            return await self._patiently(AsyncSession(await self._connected()), operation, durable)

        async with self._lock:
            return await _to_its_end(opened())

    async def _joined(self, connection: object, operation: Operation[T]) -> T:
        if not isinstance(connection, aiosqlite.Connection):
            raise UsageError(f"connection must be an aiosqlite.Connection, not {type(connection).__name__}")
        return await _to_its_end(joined(connection, AsyncSession(connection), self.where, operation))

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _to_its_end(operation: Coroutine[Any, Any, T]) -> T:
    """A transaction must not be left half done: a cancellation waits for its end and is raised then."""
    task = asyncio.ensure_future(operation)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # seen: whoever has cancelled does not ask
        raise cancelled
    return task.result()
