"""What a spooler does to the queue. Each function runs inside a transaction that its caller, the ledger, began."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spoold.lifecycle import Event, InDoubtPolicy, Situation, State, step
from spoold.outcome import Reply
from spoold.store import queries
from spoold.store.session import Row, Session

SQL = queries.load("spool.sql")
SUBMIT = queries.load("submit.sql")
CLAIMS = 1 << 32  # tokens of one incarnation: no claim shares its token with another, not even of the same spooler
AT_ONCE = 250
PREFETCH = 64 * 1024  # content up to this many octets comes with the claim; more is read in pieces when it is sent


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claimed recipient with what a delivery needs of its message. Times are milliseconds since 1970 UTC."""

    id: int
    message_id: int
    address: str
    address_type: str
    attempts: int
    route_position: int
    marked: int
    entry_id: str
    sender: str
    size: int
    digest: bytes | None
    eight_bit: int
    utf8: int
    begun: int
    expires: int | None
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a claimed recipient; written if the recipient still carries the spooler's token.

    `due`: when it is due again, None to leave that as it is. `counts`: a failed attempt.
    """

    recipient_id: int
    token: int
    event: Event
    reply: Reply | None = None
    transport: str | None = None
    destination: str | None = None
    due: int | None = None
    counts: bool = False
    route_position: int | None = None
    entry_id: str = ""
    address: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """How a result was applied: the situation after it, or None if it came too late and changed nothing."""

    result: Result
    after: Situation | None


async def claim(session: Session, token: int, destination: str | None, limit: int, now: int) -> list[Claimed]:
    """Claim up to `limit` recipients that are due at a destination (None: not yet routed), in order."""
    prefetch = PREFETCH if limit <= AT_ONCE else PREFETCH // 16  # what is claimed together is in memory together
    parameters = {"destination": destination, "now": now, "limit": limit, "prefetch": prefetch}
    rows = await session.rows(SQL.ready, parameters)
    if rows:
        await session.rows(SQL.claim, (token, json.dumps([row[0] for row in rows])))
    return [Claimed(*row) for row in rows]


async def lock(session: Session, token: int, deliveries: Sequence[Sequence[int]]) -> list[list[int]]:
    """Lock the recipients of each delivery, all or none; returns for each those that stood in the way."""
    wanted = [id_ for delivery in deliveries for id_ in delivery]
    locked = {id_ for (id_,) in await session.rows(SQL.lock, (json.dumps(wanted), token))}
    if len(locked) == len(wanted):
        return [[] for _ in deliveries]
    refused = [[id_ for id_ in delivery if id_ not in locked] for delivery in deliveries]
    broken = [id_ for delivery, missing in zip(deliveries, refused, strict=True) if missing for id_ in delivery]
    await session.rows(SQL.unlock, (json.dumps([id_ for id_ in broken if id_ in locked]),))
    return refused


async def settle(session: Session, results: Sequence[Result], policy: InDoubtPolicy, now: int) -> list[Settled]:
    """Apply results, each under its token; a late acceptance still settles what nobody else holds."""
    found = await session.rows(SQL.situations, (json.dumps([result.recipient_id for result in results]),))
    current = {row[0]: row for row in found}
    settled, writes = [], []
    for result in results:
        after = _apply(current.get(result.recipient_id), result, policy)
        settled.append(Settled(result, after))
        if after is None:
            continue
        current[result.recipient_id] = (result.recipient_id, after.state, None, after.marked, after.wish)
        reply = result.reply
        writes.append((
            after.state, after.marked, after.wish, result.counts, result.due, result.route_position,
            after.state in _TAKEN, result.transport, result.destination,
            *(_storable(reply) if reply else (None, None, None)), now, result.recipient_id,
        ))  # fmt: skip
    if writes:
        await session.many(SQL.settle, writes)
    return settled


def _storable(reply: Reply) -> tuple[int | None, str | None, str]:
    """Whatever a server or a stranger's provider has put into it."""
    text, enhanced = (str(part).encode("utf-8", "replace").decode() for part in (reply.text, reply.enhanced or ""))
    return reply.code, enhanced or None, text


_TAKEN = frozenset({State.SENT, State.FAILED})


def _apply(row: Row | None, result: Result, policy: InDoubtPolicy) -> Situation | None:
    if row is None:
        return None
    _, state, owner, marked, wish = row
    now = Situation(State(state), bool(marked), bool(wish))
    if owner == result.token or result.event is Event.VIOLATION:
        return step(now, result.event, policy)
    if owner is None and result.event is Event.ACCEPTED:
        return step(now, Event.LATE_ACCEPTED, policy)
    return None


async def recover(session: Session, incarnation: int, policy: InDoubtPolicy, reason: str, now: int) -> list[Row] | None:
    """Declare an incarnation dead and free what it had: (recipient id, state, mark) of each.

    None if somebody else was faster.
    """
    if not await session.rows(SQL.end_incarnation, (now, reason, incarnation)):
        return None
    first = incarnation * CLAIMS
    parameters = {"first": first, "last": first + CLAIMS - 1, "hold": policy is InDoubtPolicy.HOLD, "now": now}
    freed = await session.rows(SQL.recover, parameters)
    await session.rows(SQL.recover_intake, (incarnation,))
    await session.rows(SQL.forget_transports)
    return freed


async def expire(session: Session, now: int, given_up: int, limit: int = 1000) -> int:
    """Fail queued recipients whose time is over; returns how many."""
    parameters = {"now": now, "given_up": given_up, "limit": limit}
    rows = await session.rows(SQL.expired, parameters)
    await session.many(SQL.expire, [(now, id_) for (id_,) in rows])
    return len(rows)


async def drop_abandoned(session: Session, before: int) -> int:
    """Clear away content whose writer ended before it became visible; returns how many messages."""
    rows = await session.rows(SQL.abandoned, (before,))
    for (id_,) in rows:
        await session.rows(SUBMIT.drop_incoming_content, (id_,))
        await session.rows(SUBMIT.drop_incoming, (id_,))
    return len(rows)


# -- intake ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A message placed by SQL that this spooler is checking."""

    id: int
    entry_id: str
    sender: str
    size: int
    submitted: int
    send_at: int | None


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found. `refusal`: why the message cannot be sent, None if it can."""

    message: Unchecked
    refusal: Reply | None = None
    subject: str = ""
    digest: bytes = b""
    eight_bit: bool = False
    utf8: bool = False


async def take_unchecked(session: Session, token: int, limit: int) -> list[Unchecked]:
    """Claim messages for their check, oldest first."""
    rows = await session.rows(SQL.take_unchecked, {"token": token, "limit": limit})
    return sorted((Unchecked(*row) for row in rows), key=lambda message: message.id)


async def finish_check(session: Session, token: int, checked: Iterable[Checked], now: int) -> None:
    """Write the result of each check, if the message still carries the token."""
    for check in checked:
        message = check.message
        if check.refusal is not None:
            if await session.rows(SQL.still_checking, (message.id, token)):
                _, enhanced, text = _storable(check.refusal)
                await session.rows(SQL.refuse, (enhanced, text, now, message.id))
            continue
        values = (check.subject, check.digest, check.eight_bit, check.utf8, message.id, token)
        if await session.rows(SQL.accept_checked, values):
            await session.rows(SQL.drop_duplicates, {"message": message.id})
            await session.rows(SQL.make_due, (max(message.submitted, message.send_at or 0), message.id))
