"""What anybody reads from the queue. No operation here writes; each sees the queue at one moment."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from spoold import errors
from spoold.lifecycle import State, message_state
from spoold.store import queries, records
from spoold.store.records import (
    FINISHED,
    UNFINISHED,
    EventRecord,
    ListedMessage,
    MessageRecord,
    Place,
    QueueStatus,
    RecipientRecord,
    SpoolerRecord,
    TransportRecord,
    iso,
    iso_or_none,
)
from spoold.store.session import Row, Session

SQL = queries.load("read.sql")
COUNTED = 100_000  # finished messages of a state are counted up to here, so that a long history costs nothing
REMEMBERED = 100_000  # so many of the newest events are looked through for a message that was deleted


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages to list. `destination` is where they are routed to, or the recipients' domain."""

    state: str | None = None
    sender: str | None = None
    destination: str | None = None
    all: bool = False


# -- one message -------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def snapshot(session: Session) -> AsyncIterator[None]:
    """One short read transaction: several statements see the same moment."""
    await session.rows("BEGIN")
    try:
        yield
    finally:
        with contextlib.suppress(sqlite3.Error):  # the failure itself may have ended it
            await session.rows("ROLLBACK")


async def get(session: Session, entry_id: str) -> MessageRecord:
    """One message as it is now. Raises NotFound."""
    async with snapshot(session):
        found = await session.rows(SQL.message, (entry_id,))
        if not found:
            raise not_found(entry_id)
        recipients = await session.rows(SQL.recipients, (found[0][0],))
        events = await session.rows(SQL.timeline, (found[0][0],))
    return records.message(found[0][1:], tuple(map(records.recipient, recipients)), tuple(map(records.event, events)))


def not_found(entry_id: str) -> errors.NotFound:
    """The error for an entry id that no message has."""
    return errors.NotFound(f"no message has the entry id {entry_id!r:.80}: see `spoold list --all`")


async def message_id(session: Session, entry_id: str) -> int:
    """The number under which a message's parts are stored. Raises NotFound."""
    for (id_,) in await session.rows(SQL.message_id, (entry_id,)):
        return int(id_)
    raise not_found(entry_id)


async def chunk(session: Session, id_: int, seq: int) -> bytes | None:
    """One piece of a message's content as it was submitted; None beyond the last."""
    for (data,) in await session.rows(SQL.chunk, (id_, seq)):
        return bytes(data)
    return None


async def content(session: Session, entry_id: str) -> bytes:
    """The whole message as it was submitted. Raises NotFound."""
    pieces: list[bytes] = []
    async with snapshot(session):
        id_ = await message_id(session, entry_id)
        while (piece := await chunk(session, id_, len(pieces))) is not None:
            pieces.append(piece)
    return b"".join(pieces)


# -- waiting for its end -----------------------------------------------------------------------------------------------


async def pulse(session: Session) -> Row:
    """A value that differs from an earlier one if anybody has committed since."""
    return (await session.rows(SQL.pulse))[0]


async def settled(session: Session, id_: int) -> bool:
    """Whether every recipient of a message has an end; a message that is gone had one."""
    found = await session.rows(SQL.settled, (id_,))
    return bool(found[0][0]) if found else True


async def deleted(session: Session, entry_id: str, known: MessageRecord | None) -> MessageRecord:
    """What the timeline tells of a message that is no longer there (PR_DELETE_AFTER_SUBMIT).

    `known` is how it looked while it was there; without it the properties that only the message had are empty. Raises
    NotFound if the newest part of the feed does not know it either.
    """
    rows = await session.rows(SQL.newest_of, {"newest": REMEMBERED, "entry_id": entry_id})
    events = tuple(map(records.event, rows))
    ends = {event.recipient: event for event in events if event.recipient is not None and event.kind in FINISHED}
    if not ends:
        raise not_found(entry_id)
    if known is None:
        recipients: Iterable[RecipientRecord] = (
            RecipientRecord(address, "SMTP", "to", "", False, None, None, 0, None, False, None) for address in ends
        )
        submitted = events[0].time if events[0].kind == "submitted" else None
        known = MessageRecord(entry_id, "", 0, 0, "", "", 0, submitted, None, None, "normal", None, None, (), ())
    else:
        recipients = known.recipients
    final = tuple(_ended(r, ends.get(r.address)) for r in recipients)
    state = message_state({State(r.state) for r in final})
    flags = known.message_flags & ~0xC
    return replace(known, state=state, message_flags=flags, submit_flags=0, recipients=final, events=events)


def _ended(recipient: RecipientRecord, event: EventRecord | None) -> RecipientRecord:
    if event is None:
        return recipient
    return replace(
        recipient, state=event.kind, responsibility=event.kind in ("sent", "failed"), transport=event.transport,
        destination=event.destination, attempts=event.attempt or 0, next_attempt_time=None, last_reply=event.reply,
    )  # fmt: skip


# -- many --------------------------------------------------------------------------------------------------------------


async def page(session: Session, which: Filter, after: Place, limit: int) -> tuple[list[ListedMessage], Place]:
    """The next `limit` messages after a place, and the place where they end.

    In order of submission; finished ones of one state in the order in which they ended.
    """
    if which.state in FINISHED:
        statement = SQL.finished
    elif which.all or which.state == "draft":
        statement = SQL.everything
    else:
        statement = SQL.outgoing
    parameters: dict[str, Any] = {
        "state": which.state, "sender": which.sender, "destination": which.destination,
        "place": after.time, "id": after.id, "limit": limit,
    }  # fmt: skip
    rows = await session.rows(statement, parameters)
    return [records.listed(row[2:]) for row in rows], Place(*rows[-1][:2]) if rows else after


async def events(session: Session, after: int, limit: int) -> list[EventRecord]:
    """The change feed: what happened after the event numbered `after`, oldest first."""
    return [records.event(row) for row in await session.rows(SQL.events, (after, limit))]


async def spoolers(session: Session, is_alive: Callable[[str], bool]) -> tuple[SpoolerRecord, ...]:
    """The spoolers that have not said that they ended. `is_alive(mark)` says whether a spooler's lock is held."""
    rows = await session.rows(SQL.spoolers)
    return tuple(SpoolerRecord(id_, host, pid, iso(at), is_alive(mark)) for id_, host, pid, at, mark in rows)


async def status(session: Session, now: int, is_alive: Callable[[str], bool]) -> QueueStatus:
    """The queue as a whole. `is_alive`: see spoolers; `now` is in milliseconds."""
    async with snapshot(session):
        counts = await session.rows(SQL.outgoing_counts)
        finished = {state: (await session.rows(SQL.finished_count, (state, COUNTED)))[0][0] for state in FINISHED}
        ((doubtful,),) = await session.rows(SQL.doubtful)
        oldest = await session.rows(SQL.oldest)
        living = await spoolers(session, is_alive)
        transports = await session.rows(SQL.transports)
    unfinished = {row[0]: row[1] for row in counts}
    begun = oldest[0][0] if oldest else None
    order = ("queued", "held", "claimed", "locked", "sent", "failed", "aborted", "in_doubt", "expanded")
    return QueueStatus(
        outgoing=sum(unfinished.values()),
        messages={state: unfinished.get(state, 0) for state in UNFINISHED} | finished,
        counted_to=COUNTED,
        recipients={state: sum(row[at] for row in counts) for at, state in enumerate(order, 2)},
        in_doubt=doubtful,
        oldest_submit_time=iso_or_none(begun),
        oldest_age=None if begun is None else max(0, now - begun) / 1000,
        spoolers=living,
        transports=tuple(TransportRecord(name, by, state, why, iso(at)) for name, by, state, why, at in transports),
    )
