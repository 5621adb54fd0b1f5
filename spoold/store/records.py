"""What is read from the queue, as values. The attributes are the keys of `--json`, in this order.

Times are ISO 8601 UTC with milliseconds: 2026-11-23T03:00:00.123Z.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from spoold.message import Priority
from spoold.outcome import Reply
from spoold.store.session import Row

UNFINISHED = ("locked", "queued", "held")
FINISHED = ("sent", "partial", "failed", "aborted", "in_doubt")
MESSAGE_STATES = ("draft", *UNFINISHED, *FINISHED)


@dataclass(frozen=True, slots=True)
class RecipientRecord:
    """One recipient. `next_attempt_time` only while it is queued or held; `last_reply` is what came last, if any."""

    address: str
    address_type: str
    kind: str
    state: str
    responsibility: bool
    transport: str | None
    destination: str | None
    attempts: int
    next_attempt_time: str | None
    in_doubt: bool
    last_reply: Reply | None


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One entry of the timeline, and of the change feed. `kind` is what happened, `recipient` to whom."""

    seq: int
    time: str
    entry_id: str
    kind: str
    recipient: str | None
    attempt: int | None
    transport: str | None
    destination: str | None
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """One message with its recipients and its timeline. Flags are MAPI's numbers, `message_size` is in octets."""

    entry_id: str
    state: str
    message_flags: int
    submit_flags: int
    sender: str
    subject: str
    message_size: int
    client_submit_time: str | None
    deferred_send_time: str | None
    expires_time: str | None
    priority: str
    key: str | None
    sent_folder: str | None
    recipients: tuple[RecipientRecord, ...]
    events: tuple[EventRecord, ...]


@dataclass(frozen=True, slots=True)
class ListedMessage:
    """One row of the outgoing queue table (GetOutgoingQueue). `display_to` and its kin join addresses with '; '."""

    entry_id: str
    state: str
    message_flags: int
    submit_flags: int
    sender: str
    subject: str
    message_size: int
    client_submit_time: str | None
    deferred_send_time: str | None
    expires_time: str | None
    priority: str
    display_to: str | None
    display_cc: str | None
    display_bcc: str | None


@dataclass(frozen=True, slots=True)
class SpoolerRecord:
    """A spooler that has not said that it ended. `alive`: it holds the lock that proves it."""

    id: int
    host: str
    pid: int
    started: str
    alive: bool


@dataclass(frozen=True, slots=True)
class TransportRecord:
    """What a living spooler says of one of its transports: ready, or suspended and why."""

    name: str
    spooler: int
    state: str
    reason: str
    since: str


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The queue as a whole.

    `messages`: by state; of the finished ones at most `counted_to` in each state are counted. `recipients`: those of
    unfinished messages, by state. `in_doubt`: recipients that bear the mark, of finished messages too.
    """

    outgoing: int
    messages: dict[str, int]
    counted_to: int
    recipients: dict[str, int]
    in_doubt: int
    oldest_submit_time: str | None
    oldest_age: float | None
    spoolers: tuple[SpoolerRecord, ...]
    transports: tuple[TransportRecord, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """How far a list was read: the next page begins after it."""

    time: int = -(1 << 63)
    id: int = 0


# -- values ------------------------------------------------------------------------------------------------------------


def iso(milliseconds: int) -> str:
    """Milliseconds since 1970 UTC as ISO 8601; what lies beyond the calendar becomes its last or first moment."""
    seconds, rest = divmod(milliseconds, 1000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return "9999-12-31T23:59:59.999Z" if milliseconds > 0 else "0001-01-01T00:00:00.000Z"
    return f"{moment.isoformat()[:19]}.{rest:03}Z"


def iso_or_none(milliseconds: int | None) -> str | None:
    """The same for a time that may be missing."""
    return None if milliseconds is None else iso(milliseconds)


def priority_name(value: int) -> str:
    """'high', 'normal' or 'low'."""
    return Priority(value).name.lower()


def _reply(row: Row) -> Reply | None:
    code, enhanced, text = row
    return None if code is None and enhanced is None and text is None else Reply(code, enhanced, text or "")


def event(row: Row) -> EventRecord:
    """From a row of the timeline."""
    values = [row[0], iso(row[1]), *row[2:8], _reply(row[8:])]
    return EventRecord(*values)


def recipient(row: Row) -> RecipientRecord:
    """From a row of a message's recipients."""
    values = [*row[:4], bool(row[4]), *row[5:8], iso_or_none(row[8]), bool(row[9]), _reply(row[10:])]
    return RecipientRecord(*values)


def message(row: Row, recipients: tuple[RecipientRecord, ...], events: tuple[EventRecord, ...]) -> MessageRecord:
    """From a row of properties."""
    values = [*row[:7], *map(iso_or_none, row[7:10]), priority_name(row[10]), *row[11:13], recipients, events]
    return MessageRecord(*values)


def listed(row: Row) -> ListedMessage:
    """From a row of a list."""
    values = [*row[:7], *map(iso_or_none, row[7:10]), priority_name(row[10]), *row[11:]]
    return ListedMessage(*values)
