"""Everything that Spool and AsyncSpool do, written once: coroutines over a Session.

The two differ in three things only: how an operation gets a connection to itself, how to join the application's
transaction, and how to pause.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from spoold.client import doorbell
from spoold.client.liveness import is_alive
from spoold.client.submitting import Content, Message, SubmitOptions, prepared
from spoold.clock import Clock
from spoold.errors import AbortResult, NotFound, QueueBusy, SpoolError, UsageError, WaitTimeout
from spoold.store import reading, selection, submission
from spoold.store.database import BUSY_TIMEOUT, QueuePath, open_queue, readable
from spoold.store.records import MESSAGE_STATES, EventRecord, ListedMessage, MessageRecord, Place, QueueStatus
from spoold.store.selection import Batch, Selection
from spoold.store.session import Session, queue_error

T = TypeVar("T")
Operation = Callable[[Session], Coroutine[Any, Any, T]]
Step = Callable[[Session, Selection, Place, int], Coroutine[Any, Any, Batch]]

ATTEMPTS = 4  # each waits for the busy timeout; between them pauses of up to a tenth of a second
PAGE = 1000  # messages that are read at once
SHORTEST, LONGEST = 0.001, 0.05  # seconds between two looks for a change

_ENTRY_ID = re.compile(r"[0-9a-f]{32}")


class Operations:
    """The operations on one queue, as coroutines. `durability` relaxes submit only."""

    def __init__(
        self, url: str | os.PathLike[str], durability: str = "full", *, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        if durability not in ("full", "normal"):
            raise UsageError(f"durability {durability!r} is not one of full, normal")
        self.where = QueuePath.of(url)
        self._durability = durability
        self._busy_timeout = busy_timeout
        self._clock = Clock()

    def _open(self) -> sqlite3.Connection:
        connection = open_queue(self.where, durability=self._durability, any_thread=True)
        connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout * 1000)}")
        connection.text_factory = readable
        return connection

    # -- what differs --------------------------------------------------------------------------------------------------

    async def _perform(self, operation: Operation[T], durable: bool = False) -> T:
        """Run one operation of the store on this queue's connection, alone."""
        raise NotImplementedError

    async def _joined(self, connection: Any, operation: Operation[T]) -> T:
        """Run one operation in the application's transaction."""
        raise NotImplementedError

    async def _pause(self, seconds: float) -> None:
        raise NotImplementedError

    # -- what surrounds every operation --------------------------------------------------------------------------------

    async def _patiently(self, session: Session, operation: Operation[T], durable: bool) -> T:
        """Try again for a while if another process has the write lock; raises SpoolError's kinds."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if durable and self._durability != "full":
                    return await _durably(session, operation)
                return await operation(session)
            except sqlite3.Error as error:
                found = queue_error(error, self.where.path)
                if not isinstance(found, QueueBusy) or attempt == ATTEMPTS:
                    raise found from error
            await self._pause(0.03 * attempt * (0.5 + self._clock.random()))
        raise AssertionError

    async def _ring(self) -> None:
        """Wake the spoolers after a commit: a hint, so that nothing goes wrong here."""
        with contextlib.suppress(SpoolError):
            doorbell.ring(self.where, await self._perform(submission.doorbells))

    # -- submitting ----------------------------------------------------------------------------------------------------

    async def _submit(self, messages: Iterable[Message], connection: Any) -> list[str]:
        now = self._clock.now()
        batch = [prepared(message, now) for message in messages]
        if not batch:
            return []
        joined = connection is not None

        def operation(session: Session) -> Coroutine[Any, Any, submission.Submitted]:
            return submission.submit(session, batch, now, joined)

        if joined:
            return list((await self._joined(connection, operation)).entry_ids)
        submitted = await self._perform(operation)
        doorbell.ring(self.where, submitted.doorbells)
        return list(submitted.entry_ids)

    # -- withdrawing ---------------------------------------------------------------------------------------------------

    async def _abort(self, entry_id: str, connection: Any) -> AbortResult:
        id_, now = known_form(entry_id), self._clock.now()
        if connection is not None:
            return await self._joined(connection, lambda session: submission.abort(session, id_, now, joined=True))
        result = await self._perform(lambda session: submission.abort(session, id_, now), durable=True)
        await self._ring()
        return result

    async def _abort_batches(self, which: Selection) -> AsyncIterator[Batch]:
        async for batch in self._batches(selection.abort, which, durable=True):
            yield batch
        await self._ring()

    async def _abort_matching(self, which: Selection) -> dict[str, AbortResult]:
        return {entry_id: result async for batch in self._abort_batches(which) for entry_id, result in batch.aborted}

    # -- hold, release, flush ------------------------------------------------------------------------------------------

    async def _change(
        self,
        one: Callable[..., Coroutine[Any, Any, int]],
        many: Step,
        entry_ids: Sequence[str],
        which: Selection,
        durable: bool = False,
    ) -> int:
        """`one` for the messages named, else `many` for what matches; how many recipients were touched."""
        if entry_ids:
            ids, now = [known_form(entry_id) for entry_id in entry_ids], self._clock.now()
            count = await self._perform(lambda session: one(session, ids, now), durable)
        else:
            count = sum([batch.recipients async for batch in self._batches(many, which, durable)])
        await self._ring()
        return count

    async def _hold(self, entry_ids: Sequence[str], which: Selection) -> int:
        return await self._change(submission.hold, selection.hold, entry_ids, which, durable=True)

    async def _release(self, entry_ids: Sequence[str], which: Selection) -> int:
        return await self._change(submission.release, selection.release, entry_ids, which)

    async def _flush(self, entry_ids: Sequence[str], which: Selection) -> int:
        return await self._change(submission.flush, selection.flush, entry_ids, which)

    async def _batches(self, step: Step, which: Selection, durable: bool = False) -> AsyncIterator[Batch]:
        after: Place | None = Place()
        while after is not None:
            batch = await self._perform(functools.partial(_call, step, which, after, self._clock.now()), durable)
            yield batch
            after = batch.after

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _get(self, entry_id: str) -> MessageRecord:
        id_ = known_form(entry_id)
        return await self._perform(lambda session: reading.get(session, id_))

    async def _content(self, entry_id: str) -> bytes:
        id_ = known_form(entry_id)
        return await self._perform(lambda session: reading.content(session, id_))

    async def _pages(self, which: reading.Filter, limit: int | None) -> AsyncIterator[list[ListedMessage]]:
        """Page by page, each a short read of its own: a long list must not keep the database's log from being emptied."""
        after = Place()
        while limit is None or limit > 0:
            size = PAGE if limit is None else min(PAGE, limit)
            page, after = await self._perform(functools.partial(reading.page, which=which, after=after, limit=size))
            if page:
                yield page
            if len(page) < size:
                return
            limit = None if limit is None else limit - len(page)

    async def _list(self, which: reading.Filter, limit: int | None) -> list[ListedMessage]:
        return [message async for page in self._pages(which, limit) for message in page]

    async def _events(self, after: int, limit: int) -> list[EventRecord]:
        return await self._perform(lambda session: reading.events(session, after, limit))

    async def _status(self) -> QueueStatus:
        now = self._clock.now()
        return await self._perform(
            lambda session: reading.status(session, now, functools.partial(is_alive, self.where))
        )

    # -- waiting -------------------------------------------------------------------------------------------------------

    async def _wait(self, entry_id: str, timeout: float | None) -> MessageRecord:
        id_ = known_form(entry_id)
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        try:
            number = await self._perform(lambda session: reading.message_id(session, id_))
            known = await self._get(id_)
        except NotFound:
            return await self._perform(lambda session: reading.deleted(session, id_, None))
        async with contextlib.aclosing(self._changes(deadline)) as changes:
            async for _ in changes:
                if await self._perform(lambda session: reading.settled(session, number)):
                    return await self._settled(id_, known)
        raise WaitTimeout(
            f"{id_} was not settled within {timeout:g} seconds: it stays in the queue, see `spoold show {id_}`"
        )

    async def _settled(self, entry_id: str, known: MessageRecord) -> MessageRecord:
        try:
            return await self._get(entry_id)
        except NotFound:
            return await self._perform(lambda session: reading.deleted(session, entry_id, known))

    async def _changes(self, deadline: float | None = None) -> AsyncGenerator[None, None]:
        """Once at the beginning, and then after every commit on the queue, until the deadline on the monotonic clock."""
        seen, nap = None, SHORTEST
        while True:
            pulse = await self._perform(reading.pulse)
            if pulse != seen:
                seen = pulse
                yield
            left = LONGEST if deadline is None else deadline - self._clock.monotonic()
            if left <= 0:
                return
            await self._pause(min(nap, left))
            nap = min(nap * 1.5, LONGEST)


# -- arguments ---------------------------------------------------------------------------------------------------------


def as_message(message: Message | Content, options: SubmitOptions | None = None) -> Message:
    """A Message from what submit or submit_many was given."""
    if not isinstance(message, Message):
        return Message(message, **(options or {}))
    if options:
        raise UsageError("options stand in the Message itself, or beside its content: not in both places")
    return message


def known_form(entry_id: str) -> str:
    """The entry id as it is stored. Raises NotFound for what is none."""
    lowered = str(entry_id).lower()
    if not _ENTRY_ID.fullmatch(lowered):
        raise reading.not_found(entry_id)
    return lowered


def listed(state: str | None, sender: str | None, destination: str | None, all_: bool) -> reading.Filter:
    """The filter of `list`. Raises UsageError."""
    if state is not None and state not in MESSAGE_STATES:
        raise UsageError(f"state {state!r:.80} is not one of {', '.join(MESSAGE_STATES)}")
    return reading.Filter(state, _text(sender, "sender"), _text(destination, "destination"), all_)


def selected(
    entry_ids: Sequence[str] = (), *, sender: str | None = None, destination: str | None = None,
    transport: str | None = None, all_: bool,
) -> Selection:  # fmt: skip
    """What to touch: the messages named, or what matches all conditions; everything only if that is said."""
    which = Selection(_text(sender, "sender"), _text(destination, "destination"), _text(transport, "transport"))
    if entry_ids and which != Selection():
        raise UsageError("name entry ids, or a condition: not both")
    if not entry_ids and not all_ and which == Selection():
        raise UsageError("nothing is named: give entry ids, a condition, or all")
    return which


def _text(value: str | None, what: str) -> str | None:
    try:
        (value or "").encode()
    except (UnicodeEncodeError, AttributeError):
        raise UsageError(f"{what} {value!r:.80} is not valid text") from None
    return value


async def _call(step: Step, which: Selection, after: Place, now: int, session: Session) -> Batch:
    return await step(session, which, after, now)


async def _durably(session: Session, operation: Operation[T]) -> T:
    """Locks and aborts reach the disk, whatever `durability` says of submitting."""
    await session.rows("PRAGMA synchronous = FULL")
    try:
        return await operation(session)
    finally:
        await session.rows("PRAGMA synchronous = NORMAL")
