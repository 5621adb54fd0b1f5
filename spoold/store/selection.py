"""What is done to many messages at once. Each function is one transaction on the next batch, to be called to the end.

Only the recipients that match are touched: the others of the same message go their way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spoold.errors import AbortResult
from spoold.store import queries
from spoold.store.records import Place
from spoold.store.session import Row, Session, transaction

SQL = queries.load("selection.sql")
MESSAGES = 500  # in one transaction at most,
RECIPIENTS = 5000  # and so many recipients, unless a single message has more


@dataclass(frozen=True, slots=True)
class Selection:
    """What to touch; no condition: everything that is unfinished.

    `destination` is where a recipient is routed to, or its domain; `transport` the one that tried it last.
    """

    sender: str | None = None
    destination: str | None = None
    transport: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction did. `after`: where the next one begins, None at the end."""

    after: Place | None
    recipients: int
    aborted: tuple[tuple[str, AbortResult], ...] = ()


async def abort(session: Session, which: Selection, after: Place, now: int) -> Batch:
    """Withdraw what matches: an AbortResult for each entry id, of the recipients that match."""
    async with transaction(session):
        messages, place = await _next(session, which, after)
        parameters = await _recipients(session, which, messages) | {"now": now}
        withdrawn = {id_ for (id_,) in await session.rows(SQL.abort, parameters)}
        await session.rows(SQL.wish_abort, parameters)
        found = await session.rows(SQL.states, parameters)
    by_message: dict[int, list[Row]] = {id_: [] for _, id_, *_ in messages}
    for id_, *row in found:
        by_message[id_].append(tuple(row))
    results = tuple((entry_id, _result(by_message[id_], withdrawn)) for _, id_, entry_id, _ in messages)
    return Batch(place, len(withdrawn), results)


def _result(recipients: Sequence[Row], withdrawn: set[int]) -> AbortResult:
    def those(wanted: str) -> tuple[str, ...]:
        return tuple(
            address
            for id_, address, state in recipients
            if state == wanted and (state != "aborted" or id_ in withdrawn)
        )

    return AbortResult(those("aborted"), those("sent"), those("locked"), those("in_doubt"))


async def hold(session: Session, which: Selection, after: Place, now: int) -> Batch:
    """Hold what is queued or claimed and matches."""
    return await _update(session, which, after, SQL.hold, now)


async def release(session: Session, which: Selection, after: Place, now: int) -> Batch:
    """Release what is held and matches."""
    return await _update(session, which, after, SQL.release, now)


async def flush(session: Session, which: Selection, after: Place, now: int) -> Batch:
    """Make due now what is queued and matches, except messages that were submitted for a later time."""
    return await _update(session, which, after, SQL.flush, now, due=now, record=SQL.record_flush)


async def _update(
    session: Session, which: Selection, after: Place, statement: str, now: int, *,
    due: int | None = None, record: str | None = None,
) -> Batch:  # fmt: skip
    async with transaction(session):
        messages, place = await _next(session, which, after, due)
        parameters = await _recipients(session, which, messages) | {"now": now}
        touched = [id_ for (id_,) in await session.rows(statement, parameters)]
        if record is not None and touched:
            await session.rows(record, {"messages": json.dumps(sorted(set(touched))), "now": now})
    return Batch(place, len(touched))


async def _next(
    session: Session, which: Selection, after: Place, due: int | None = None
) -> tuple[list[Row], Place | None]:
    """(submit time, id, entry id, recipients) of the next messages that match, and where the next batch begins."""
    parameters: dict[str, Any] = {
        "place": after.time, "id": after.id, "limit": MESSAGES, "due": due,
        "sender": which.sender, "destination": which.destination, "transport": which.transport,
    }  # fmt: skip
    rows = await session.rows(SQL.matching, parameters)
    batch: list[Row] = []
    recipients = 0
    for row in rows:
        recipients += row[3]
        if batch and recipients > RECIPIENTS:
            break
        batch.append(row)
    ended = len(batch) == len(rows) < MESSAGES
    return batch, None if ended else Place(*batch[-1][:2])


async def _recipients(session: Session, which: Selection, messages: Sequence[Row]) -> dict[str, str | int]:
    parameters = {
        "messages": json.dumps([row[1] for row in messages]),
        "destination": which.destination, "transport": which.transport,
    }  # fmt: skip
    return {"recipients": json.dumps([id_ for (id_,) in await session.rows(SQL.of, parameters)])}
