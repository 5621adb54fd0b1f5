"""An operation in the application's own transaction, on the application's own connection.

Whatever the connection is set to (isolation_level, row_factory, text_factory), it is the same afterwards. What was
written binds when the application commits; a failure undoes what was written here and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import Any, Protocol, TypeVar

from spoold.client.operations import Operation
from spoold.errors import QueueMissing, UsageError
from spoold.store.database import QueuePath
from spoold.store.session import Session, queue_error

T = TypeVar("T")


class Connection(Protocol):
    """What sqlite3.Connection and aiosqlite.Connection have in common."""

    row_factory: Any
    text_factory: Any
    isolation_level: Any

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction has begun."""


async def joined(connection: Connection, session: Session, where: QueuePath, operation: Operation[T]) -> T:
    """Run an operation in the transaction of `connection`, which begins here if it has not.

    Raises QueueMissing if it is not a connection to the queue's file, UsageError if it is closed, or in autocommit mode
    with no transaction begun (nobody would commit it), and what the operation raises.
    """
    try:
        factories = connection.row_factory, connection.text_factory
        begun = not connection.in_transaction
    except (sqlite3.ProgrammingError, ValueError) as error:
        raise UsageError(f"connection: {error}") from error
    if begun and (connection.isolation_level is None or getattr(connection, "autocommit", None) is True):
        raise UsageError(
            "connection is in autocommit mode and no transaction has begun: execute BEGIN first, or leave connection= out"
        )
    connection.row_factory, connection.text_factory = None, str
    try:
        await _require_queue(session, where)
        if not begun:
            return await operation(session)
        # a savepoint outside of a transaction would commit at its release, before the application does
        await session.rows("BEGIN IMMEDIATE")
        try:
            return await operation(session)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                await session.rows("ROLLBACK")
            raise
    except sqlite3.Error as error:
        raise queue_error(error, where.path) from error
    finally:
        connection.row_factory, connection.text_factory = factories


async def _require_queue(session: Session, where: QueuePath) -> None:
    path = next((row[2] for row in await session.rows("PRAGMA database_list") if row[1] == "main"), "")
    if not _is_file(path, where.path):
        raise QueueMissing(
            f"the connection's main database is {path or 'in memory'}, not the queue {where.path}: "
            "open the connection on that file, or the Spool on the connection's"
        )


def _is_file(path: str, queue: str) -> bool:
    try:
        return bool(path) and os.path.samefile(path, queue)
    except OSError:
        return False
