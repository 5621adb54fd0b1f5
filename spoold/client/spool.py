"""Spool: the outgoing queue for programs without an event loop."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar, Unpack

from spoold.client import forking
from spoold.client.joining import joined
from spoold.client.operations import Operation, Operations, as_message, listed, selected
from spoold.client.submitting import Content, Message, SubmitOptions
from spoold.errors import AbortResult, UsageError
from spoold.store.database import BUSY_TIMEOUT
from spoold.store.records import EventRecord, ListedMessage, MessageRecord, QueueStatus
from spoold.store.selection import Batch
from spoold.store.session import SyncSession, run

T = TypeVar("T")
Listed = list[ListedMessage]  # `list` is a method below


class Spool(Operations):
    """The outgoing queue at `url`: `sqlite:///relative.db`, `sqlite:////absolute.db` or a path.

    It must exist (`spoold migrate` or `spoold run` creates it); no daemon is needed to submit or withdraw. Any thread
    may use a Spool, one operation runs at a time; a fork is survived. `durability="normal"`: a message that was
    submitted can be lost if the machine, not the process, goes down in the following moments; an abort never is.
    `busy_timeout`: seconds that an operation waits for another process's transaction, several times.

    Every operation raises QueueError's kinds beside what it names. As a context manager it closes itself.
    """

    def __init__(
        self, url: str | os.PathLike[str], durability: str = "full", *, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        super().__init__(url, durability, busy_timeout=busy_timeout)
        self._lock = threading.Lock()
        self._closed = False
        self._connection: sqlite3.Connection | None = self._open()
        forking.survive(self)

    # -- submitting and withdrawing ------------------------------------------------------------------------------------

    def submit(
        self,
        message: Message | Content,
        *,
        connection: sqlite3.Connection | None = None,
        **options: Unpack[SubmitOptions],
    ) -> str:
        """Place a message in the outgoing queue (SubmitMessage); returns its entry id. Durable when it returns.

        `message`: an email.message.EmailMessage, octets, or a binary file. Options: see Message. `connection`: join the
        transaction of this connection to the same file (one begins if there is none): the message is submitted when
        that commits. Raises CorruptData, TooBig, NoRecipients, Submitted (the entry id exists), KeyReused.
        """
        return run(self._submit([as_message(message, options)], connection))[0]

    def submit_many(
        self, messages: Iterable[Message | Content], *, connection: sqlite3.Connection | None = None
    ) -> list[str]:
        """Submit all of them or none, in one transaction; returns their entry ids in this order. Raises as submit."""
        return run(self._submit(map(as_message, messages), connection))

    def abort(self, entry_id: str, *, connection: sqlite3.Connection | None = None) -> AbortResult:
        """Withdraw what can still be withdrawn (AbortSubmit): no server has said or will say yes to those `aborted`.

        The answer is definite when this returns; with `connection`, when that commits. Raises NotInQueue (nothing was
        left), UnableToAbort (all that is left is locked or in doubt; both carry the AbortResult), NotFound.
        """
        return run(self._abort(entry_id, connection))

    def abort_matching(
        self,
        *,
        sender: str | None = None,
        destination: str | None = None,
        all: bool = False,  # noqa: A002
    ) -> dict[str, AbortResult]:
        """Withdraw every unfinished recipient that matches, in several transactions: a result for each entry id.

        `destination`: where they are routed to, or their domain. `all`: everything. Raises UsageError if nothing is
        given; what could not be withdrawn is no error here.
        """
        return run(self._abort_matching(selected(sender=sender, destination=destination, all_=all)))

    def hold(
        self,
        *entry_ids: str,
        destination: str | None = None,
        transport: str | None = None,
        all: bool = False,  # noqa: A002
    ) -> int:
        """Keep recipients from being sent until `release`; returns how many. Raises NotFound, UsageError."""
        return run(self._hold(entry_ids, selected(entry_ids, destination=destination, transport=transport, all_=all)))

    def release(
        self,
        *entry_ids: str,
        destination: str | None = None,
        transport: str | None = None,
        all: bool = False,  # noqa: A002
    ) -> int:
        """Let held recipients go on; returns how many. Raises NotFound, UsageError."""
        return run(
            self._release(entry_ids, selected(entry_ids, destination=destination, transport=transport, all_=all))
        )

    def flush(self, *entry_ids: str, destination: str | None = None, transport: str | None = None) -> int:
        """Make what is queued due now; without entry ids all but what was submitted for a later time.

        Returns how many recipients. Raises NotFound, UsageError.
        """
        return run(self._flush(entry_ids, selected(entry_ids, destination=destination, transport=transport, all_=True)))

    # -- reading -------------------------------------------------------------------------------------------------------

    def get(self, entry_id: str) -> MessageRecord:
        """One message with its recipients and its timeline. Raises NotFound."""
        return run(self._get(entry_id))

    def content(self, entry_id: str) -> bytes:
        """The message as it was submitted, octet for octet. Raises NotFound."""
        return run(self._content(entry_id))

    def wait(self, entry_id: str, timeout: float | None = None) -> MessageRecord:
        """Wait until every recipient is settled, at most `timeout` seconds; returns the record then.

        A message that was deleted after it was sent is told from the timeline: its state and recipients are known, of
        its properties only what was there when the wait began. Raises WaitTimeout, NotFound.
        """
        return run(self._wait(entry_id, timeout))

    def events(self, after: int = 0, limit: int = 1000) -> list[EventRecord]:
        """The change feed: up to `limit` events after the one numbered `after`, oldest first."""
        return run(self._events(after, limit))

    def status(self) -> QueueStatus:
        """The queue as a whole: counts, the oldest message, spoolers and transports."""
        return run(self._status())

    def list(
        self,
        *,
        state: str | None = None,
        destination: str | None = None,
        sender: str | None = None,
        all: bool = False,  # noqa: A002
        limit: int | None = None,
    ) -> Listed:
        """The outgoing queue in order of submission (GetOutgoingQueue); `all`: finished messages and drafts too.

        A finished `state` lists those that ended so. `destination`: where a recipient is routed to, or its domain.
        """
        return run(self._list(listed(state, sender, destination, all), limit))

    # -- the connection ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connection. Any use afterwards raises UsageError."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def before_fork(self) -> None:
        """See forking."""
        self._lock.acquire()
        self._disconnect()

    def after_fork(self) -> None:
        """See forking."""
        self._lock.release()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _perform(self, operation: Operation[T], durable: bool = False) -> T:
        with self._lock:
            if self._closed:
                raise UsageError("this Spool was closed: open another one")
            if self._connection is None:
                self._connection = self._open()
            return await self._patiently(SyncSession(self._connection), operation, durable)

    async def _joined(self, connection: object, operation: Operation[T]) -> T:
        if not isinstance(connection, sqlite3.Connection):
            raise UsageError(f"connection must be an sqlite3.Connection, not {type(connection).__name__}")
        return await joined(connection, SyncSession(connection), self.where, operation)

    async def _pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop here

    # -- for the commands ----------------------------------------------------------------------------------------------

    def perform(self, operation: Operation[T]) -> T:
        """Run one operation of the store on this queue's connection, alone."""
        return run(self._perform(operation))

    def pages(
        self, *, state: str | None, destination: str | None, sender: str | None, all_: bool, limit: int | None
    ) -> Iterator[Listed]:
        """What `list` returns, piece by piece."""
        return _each(self._pages(listed(state, sender, destination, all_), limit))

    def abort_batches(self, *, sender: str | None, destination: str | None, all_: bool) -> Iterator[Batch]:
        """What `abort_matching` does, transaction by transaction."""
        return _each(self._abort_batches(selected(sender=sender, destination=destination, all_=all_)))

    def changes(self) -> Iterator[None]:
        """Once now, and after every commit on the queue."""
        return _each(self._changes())


def _each(generator: AsyncIterator[T]) -> Iterator[T]:
    while True:
        try:
            item = run(_next(generator))
        except StopAsyncIteration:
            return
        yield item


async def _next(generator: AsyncIterator[T]) -> T:
    return await anext(generator)
