"""Every transition of a recipient, in one table. Pure: no clock, no I/O.

The store's SQL does the same in sets; a test walks the whole table through both. `docs/lifecycle.md` is drawn from here.

Three things are remembered beside the state. The *mark* (in_doubt): a server may have said yes once; it is never
taken off. The *wish*: an abort came while the recipient was locked; it decides if that attempt fails. The *token*:
which claim owns the recipient; only results under that token apply, with one exception, the late acceptance.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state of one recipient."""

    QUEUED = "queued"
    HELD = "held"
    CLAIMED = "claimed"
    LOCKED = "locked"
    SENT = "sent"
    FAILED = "failed"
    ABORTED = "aborted"
    IN_DOUBT = "in_doubt"
    EXPANDED = "expanded"


class Event(StrEnum):
    """What can happen to a recipient."""

    CLAIM = "claim"
    LOCK = "lock"
    GIVE_BACK = "give back"  # the attempt ended before anything irreversible: no failed attempt
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    NOT_MINE = "not mine"
    DOUBT = "in doubt"
    LEASE_LOST = "lease lost"
    LATE_ACCEPTED = "late accepted"  # the token is no longer on the recipient, and nobody else's is
    VIOLATION = "lock violation"  # a provider reports an acceptance without having locked
    ABORT = "abort"
    HOLD = "hold"
    RELEASE = "release"
    EXPIRE = "expire"  # deferred, and there is no time for another attempt
    REFUSE = "refuse"  # intake finds that the message cannot be sent


class InDoubtPolicy(StrEnum):
    """What follows when the lock was taken and nothing decided."""

    RETRY = "retry"  # at least once
    HOLD = "hold"  # at most once: a person decides


FINAL = frozenset({State.SENT, State.FAILED, State.ABORTED, State.IN_DOUBT, State.EXPANDED})
WITHDRAWABLE = frozenset({State.QUEUED, State.HELD, State.CLAIMED})
IN_FLIGHT = frozenset({State.CLAIMED, State.LOCKED})


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: from `state`, on `event`, to `to`; the guards that are not None must hold."""

    state: State
    event: Event
    to: State
    marked: bool | None = None
    wish: bool | None = None
    policy: InDoubtPolicy | None = None
    sets_mark: bool = False
    sets_wish: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """What the transitions depend on, of one recipient."""

    state: State
    marked: bool = False
    wish: bool = False


def _withdrawn(state: State, event: Event, wish: bool | None = None) -> tuple[Row, Row]:
    """An abort says `aborted` only where no server can have said yes."""
    return (
        Row(state, event, State.ABORTED, marked=False, wish=wish, sets_wish=True),
        Row(state, event, State.IN_DOUBT, marked=True, wish=wish, sets_wish=True),
    )


def _undecided(event: Event) -> tuple[Row, Row, Row]:
    """The lock was taken and nothing decided: marked for good."""
    return (
        Row(State.LOCKED, event, State.IN_DOUBT, wish=True, sets_mark=True),
        Row(State.LOCKED, event, State.QUEUED, wish=False, policy=InDoubtPolicy.RETRY, sets_mark=True),
        Row(State.LOCKED, event, State.HELD, wish=False, policy=InDoubtPolicy.HOLD, sets_mark=True),
    )


TABLE: tuple[Row, ...] = (
    Row(State.QUEUED, Event.CLAIM, State.CLAIMED),
    Row(State.CLAIMED, Event.LOCK, State.LOCKED),
    # before the lock
    Row(State.CLAIMED, Event.GIVE_BACK, State.QUEUED),
    Row(State.CLAIMED, Event.LEASE_LOST, State.QUEUED),
    Row(State.CLAIMED, Event.DEFERRED, State.QUEUED),
    Row(State.CLAIMED, Event.NOT_MINE, State.QUEUED),
    Row(State.CLAIMED, Event.REJECTED, State.FAILED),
    Row(State.CLAIMED, Event.EXPIRE, State.FAILED),
    # after the lock
    Row(State.LOCKED, Event.ACCEPTED, State.SENT),
    Row(State.LOCKED, Event.REJECTED, State.FAILED),
    Row(State.LOCKED, Event.DEFERRED, State.QUEUED, wish=False),
    *_withdrawn(State.LOCKED, Event.DEFERRED, wish=True),
    Row(State.LOCKED, Event.GIVE_BACK, State.QUEUED, wish=False),
    *_withdrawn(State.LOCKED, Event.GIVE_BACK, wish=True),
    Row(State.LOCKED, Event.EXPIRE, State.FAILED, wish=False),
    *_withdrawn(State.LOCKED, Event.EXPIRE, wish=True),
    *_undecided(Event.DOUBT),
    *_undecided(Event.LEASE_LOST),
    # the submitter's side
    *_withdrawn(State.QUEUED, Event.ABORT),
    *_withdrawn(State.HELD, Event.ABORT),
    *_withdrawn(State.CLAIMED, Event.ABORT),
    Row(State.LOCKED, Event.ABORT, State.LOCKED, sets_wish=True),
    Row(State.QUEUED, Event.HOLD, State.HELD),
    Row(State.CLAIMED, Event.HOLD, State.HELD),
    Row(State.HELD, Event.RELEASE, State.QUEUED),
    Row(State.QUEUED, Event.EXPIRE, State.FAILED),
    Row(State.QUEUED, Event.REFUSE, State.FAILED),
    Row(State.HELD, Event.REFUSE, State.FAILED),
    # what comes after its time
    Row(State.QUEUED, Event.LATE_ACCEPTED, State.SENT),
    Row(State.HELD, Event.LATE_ACCEPTED, State.SENT),
    Row(State.IN_DOUBT, Event.LATE_ACCEPTED, State.SENT),
    *(Row(state, Event.VIOLATION, State.IN_DOUBT, sets_mark=True) for state in State if state is not State.SENT),
)

_ROWS: dict[tuple[State, Event], list[Row]] = {}
for _row in TABLE:
    _ROWS.setdefault((_row.state, _row.event), []).append(_row)


def step(now: Situation, event: Event, policy: InDoubtPolicy = InDoubtPolicy.RETRY) -> Situation | None:
    """The situation after `event`, or None where the table has no row: the event does not apply and changes nothing."""
    for row in _ROWS.get((now.state, event), ()):
        if (
            (row.marked is None or row.marked == now.marked)
            and (row.wish is None or row.wish == now.wish)
            and (row.policy is None or row.policy is policy)
        ):
            return Situation(row.to, now.marked or row.sets_mark, now.wish or row.sets_wish)
    return None


def message_state(states: set[State]) -> str:
    """The state of a message from those of its recipients: the first that applies, else what all share, else partial."""
    if not states:
        return "draft"
    if State.LOCKED in states:
        return "locked"
    if states & {State.QUEUED, State.CLAIMED}:
        return "queued"
    if State.HELD in states:
        return "held"
    if State.IN_DOUBT in states:
        return "in_doubt"
    settled = states - {State.EXPANDED} or states
    return next(iter(settled)).value if len(settled) == 1 else "partial"
