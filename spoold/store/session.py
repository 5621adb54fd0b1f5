"""A database connection as the queue's operations see it: two verbs, and a transaction.

Operations are written once, as coroutines over a Session. With AsyncSession they run on aiosqlite; with SyncSession
nothing ever suspends, so that `run()` drives them to their end without an event loop.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from spoold import errors

if TYPE_CHECKING:
    import aiosqlite

T = TypeVar("T")
Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any]


class Session(Protocol):
    """One connection, used by one task at a time."""

    async def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        ...

    async def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each set of parameters."""
        ...


class SyncSession:
    """Over sqlite3. The connection is in autocommit mode, or the application's own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    async def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """See Session."""
        cursor = self.connection.cursor()
        cursor.row_factory = None
        return cursor.execute(sql, parameters).fetchall()

    async def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """See Session."""
        self.connection.executemany(sql, parameters)


class AsyncSession:
    """Over aiosqlite: each call is one hop to the connection's thread and back."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self.connection = connection

    async def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """See Session."""
        return list(await self.connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]

    async def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """See Session."""
        await self.connection.executemany(sql, parameters)


def run(operation: Coroutine[Any, Any, T]) -> T:
    """Drive an operation over a SyncSession to its end."""
    try:
        operation.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    operation.close()
    raise RuntimeError("an operation over a SyncSession must not suspend")


@contextlib.asynccontextmanager
async def transaction(session: Session, joined: bool = False) -> AsyncIterator[None]:
    """One write transaction, committed at the end and rolled back on any exception.

    `joined`: part of the application's transaction, which may begin here and ends with the application's COMMIT; a
    failure undoes what was written here and nothing else.
    """
    begin, end, undo = (
        ("SAVEPOINT spoold", "RELEASE spoold", ("ROLLBACK TO spoold", "RELEASE spoold"))
        if joined
        else ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
    )
    await session.rows(begin)
    try:
        yield
        await session.rows(end)
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the failure itself may have rolled back already
            for statement in undo:
                await session.rows(statement)
        raise


# How SQLite's result codes (the primary ones) are told to a user.
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ACCESS = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


def queue_error(error: sqlite3.Error, where: str) -> errors.SpoolError:
    """The error that stands for what SQLite said about the queue at `where`."""
    text = str(error)
    name = text.split(":", 1)[0]
    if name.startswith("MAPI_E_"):
        for kind in (errors.CorruptData, errors.NoRecipients, errors.Submitted, errors.KeyReused):
            if kind.code == name:
                return kind(text.split(": ", 1)[-1])
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _BUSY:
        return errors.QueueBusy(f"queue {where} is locked by another process: try again")
    if code == sqlite3.SQLITE_FULL:
        return errors.QueueFull(f"queue {where}: the disk is full; nothing was stored, make room and try again")
    if code in _DAMAGED:
        return errors.QueueDamaged(f"queue {where} is damaged or no SQLite database ({text}): restore it from a backup")
    if code in _NO_ACCESS or code == sqlite3.SQLITE_CANTOPEN:
        return cannot_open(where)
    if code == sqlite3.SQLITE_READONLY:
        return not_writable(where)
    if code == sqlite3.SQLITE_IOERR:
        return errors.QueueUnusable(f"queue {where}: {text}: look at the disk")
    return errors.QueueUnusable(f"queue {where}: {text}")


def cannot_open(where: str) -> errors.SpoolError:
    """Why a database file that may or may not be there cannot be opened."""
    directory = os.path.dirname(where) or "."
    if not os.path.isdir(directory):
        return errors.QueueMissing(f"no queue at {where}: the directory {directory} does not exist")
    if not os.path.exists(where) and os.access(directory, os.X_OK):
        return errors.QueueMissing(f"no queue at {where}: create it with `spoold migrate`, or correct --queue")
    if not os.path.isfile(where) and os.path.exists(where):
        return errors.QueueUnusable(f"queue {where} is not a file: correct --queue")
    if _is_read_only(directory):
        return _read_only(where)
    return errors.NoAccess(f"queue {where} or its directory may not be used by this user: join the queue's group")


def not_writable(where: str) -> errors.SpoolError:
    """Why a queue's file cannot be written."""
    if _is_read_only(os.path.dirname(where)):
        return _read_only(where)
    return errors.NoAccess(f"queue {where} may not be written by this user: join the queue's group")


def _is_read_only(directory: str) -> bool:
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _read_only(where: str) -> errors.QueueUnusable:
    return errors.QueueUnusable(f"queue {where} is on a read-only file system: remount it for writing")
