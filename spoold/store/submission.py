"""What a client's process does to the queue. Each function is one transaction, except where it says otherwise.

With `joined` they are part of the application's transaction, and bind when that commits.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from spoold import errors
from spoold.errors import AbortResult
from spoold.message import CHUNK, MessageFlags, Submission
from spoold.store import queries
from spoold.store.session import Session, transaction

SQL = queries.load("submit.sql")
AT_ONCE = 1024 * 1024  # content beyond this many octets goes in by several short transactions
_FLAGS = MessageFlags.READ | MessageFlags.UNMODIFIED | MessageFlags.UNSENT | MessageFlags.FROMME


@dataclass(frozen=True, slots=True)
class Submitted:
    """Entry ids in the order given, and the doorbells to ring once the transaction has committed."""

    entry_ids: tuple[str, ...]
    doorbells: tuple[str, ...]


async def submit(session: Session, messages: Sequence[Submission], now: int, joined: bool = False) -> Submitted:
    """Place messages in the outgoing queue: all of them or none. Durable when it returns (not `joined`).

    Content over 1 MiB is written before, in short transactions, as an invisible draft. `now` is in milliseconds.
    A key that was used before for the same content yields the first message's entry id and stores nothing.
    Raises Submitted for an entry id that exists, KeyReused, and what the session raises.
    """
    uploads: dict[str, int] = {}
    try:
        if not joined:
            for message in messages:
                if len(message.content) > AT_ONCE and await _key_owner(session, message) is None:
                    uploads[message.entry_id] = await _upload(session, message, now)
        async with transaction(session, joined):
            entry_ids = [await _place(session, message, uploads.get(message.entry_id), now) for message in messages]
            doorbells = await session.rows(SQL.doorbells)
        for message, entry_id in zip(messages, entry_ids, strict=True):
            if entry_id == message.entry_id:
                uploads.pop(entry_id, None)
        return Submitted(tuple(entry_ids), tuple(mark for (mark,) in doorbells))
    finally:
        for message_id in uploads.values():
            await _forget_upload(session, message_id)


async def _place(session: Session, message: Submission, uploaded: int | None, now: int) -> str:
    owner = await _key_owner(session, message)
    if owner is not None:
        return owner
    if uploaded is None:
        uploaded = await _insert(session, message, "ready", _FLAGS | MessageFlags.SUBMIT, now)
        await session.many(SQL.insert_chunk, _chunks(uploaded, message.content))
    elif not await session.rows(SQL.flip_incoming, (now, uploaded)):
        raise errors.QueueUnusable(f"message {message.entry_id} took longer than a day to write: submit it again")
    state = "held" if message.hold else "queued"
    due = max(now, message.send_at or 0)
    priority = int(message.priority)
    await session.many(
        SQL.insert_recipient,
        [(uploaded, r.kind, r.address, r.address_type, state, priority, due, now) for r in message.recipients],
    )
    if message.key is not None:
        await session.rows(SQL.insert_key, (message.key, message.entry_id, uploaded, now))
    return message.entry_id


async def _insert(session: Session, message: Submission, stage: str, flags: MessageFlags, now: int) -> int:
    try:
        rows = await session.rows(
            SQL.insert_message,
            (
                message.entry_id, stage, int(flags), message.sender, message.subject, len(message.content),
                hashlib.sha256(message.content).digest(), message.eight_bit, message.utf8, int(message.priority),
                now, message.send_at, message.expires, message.key, message.sent_folder, message.delete_after_submit,
            ),
        )  # fmt: skip
    except sqlite3.IntegrityError as error:
        if "spoold_message.entry_id" in str(error):
            raise errors.Submitted(f"a message with the entry id {message.entry_id} was stored before") from error
        raise
    return int(rows[0][0])


async def _key_owner(session: Session, message: Submission) -> str | None:
    """The entry id that was given out for the message's key before."""
    if message.key is None:
        return None
    for entry_id, message_id, sender, size, digest in await session.rows(SQL.find_key, (message.key,)):
        same = sender is None or (
            sender == message.sender
            and size == len(message.content)
            and (digest is None or digest == hashlib.sha256(message.content).digest())
            and {(r.address_type, r.address) for r in message.recipients}
            == set(await session.rows(SQL.addresses, (message_id,)))
        )
        if not same:
            raise errors.KeyReused(
                f"key {message.key!r} was used before, for another sender, content or recipients: {entry_id}"
            )
        return str(entry_id)
    return None


def _chunks(
    message_id: int, content: bytes, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, int, bytes]]:
    end = len(content) if last is None else min(last, len(content))
    for start in range(first, end, CHUNK):
        yield message_id, start // CHUNK, content[start : start + CHUNK]


async def _upload(session: Session, message: Submission, now: int) -> int:
    """Several short transactions, so that the write lock is never held for long."""
    async with transaction(session):
        message_id = await _insert(session, message, "incoming", _FLAGS, now)
    try:
        for start in range(0, len(message.content), AT_ONCE):
            async with transaction(session):
                await session.many(SQL.insert_chunk, _chunks(message_id, message.content, start, start + AT_ONCE))
    except BaseException:
        await _forget_upload(session, message_id)
        raise
    return message_id


async def _forget_upload(session: Session, message_id: int) -> None:
    try:
        async with transaction(session):
            await session.rows(SQL.drop_incoming_content, (message_id,))
            await session.rows(SQL.drop_incoming, (message_id,))
    except sqlite3.Error:
        pass  # invisible, and the spooler clears it away later


# -- withdrawing -------------------------------------------------------------------------------------------------------


async def abort(session: Session, entry_id: str, now: int, joined: bool = False) -> AbortResult:
    """Withdraw what can be withdrawn (AbortSubmit); the answer binds when the transaction commits.

    Raises NotFound, NotInQueue, UnableToAbort.
    """
    async with transaction(session, joined):
        message_id, stage = await _find(session, entry_id)
        withdrawn: dict[int, str] = dict(await session.rows(SQL.abort, (now, message_id)))
        await session.rows(SQL.wish_abort, (now, message_id))
        recipients = await session.rows(SQL.recipient_states, (message_id,))
    result = AbortResult(
        aborted=tuple(address for id_, address, _ in recipients if withdrawn.get(id_) == "aborted"),
        sent=tuple(address for _, address, state in recipients if state == "sent"),
        locked=tuple(address for _, address, state in recipients if state == "locked"),
        in_doubt=tuple(address for _, address, state in recipients if state == "in_doubt"),
    )
    if result.aborted:
        return result
    states = sorted({state for _, _, state in recipients})
    shown = stage if stage == "draft" else states[0] if len(states) == 1 else "partial"
    if result.locked or result.in_doubt:
        waiting = "is being handed over at this moment" if result.locked else "may have been delivered"
        raise errors.UnableToAbort(
            f"{entry_id}: nothing was withdrawn: {', '.join((*result.locked, *result.in_doubt)[:3])} {waiting}",
            result,
            shown,
        )
    raise errors.NotInQueue(f"{entry_id}: nothing is left to withdraw: the message is {shown}", result, shown)


async def hold(session: Session, entry_ids: Iterable[str], now: int) -> int:
    """Hold the recipients that are queued or claimed; returns how many. Raises NotFound."""
    return await _each(session, entry_ids, SQL.hold, now)


async def release(session: Session, entry_ids: Iterable[str], now: int) -> int:
    """Release held recipients; returns how many. Raises NotFound."""
    return await _each(session, entry_ids, SQL.release, now)


async def flush(session: Session, entry_ids: Iterable[str], now: int) -> int:
    """Make what is queued due now; returns how many recipients. Raises NotFound."""
    return await _each(session, entry_ids, SQL.flush, now, SQL.record_flush)


async def doorbells(session: Session) -> tuple[str, ...]:
    """The marks of the spoolers to ring."""
    return tuple(mark for (mark,) in await session.rows(SQL.doorbells))


async def _each(session: Session, entry_ids: Iterable[str], statement: str, now: int, record: str | None = None) -> int:
    count = 0
    async with transaction(session):
        for entry_id in entry_ids:
            message_id, _ = await _find(session, entry_id)
            count += len(await session.rows(statement, (now, message_id)))
            if record is not None:
                await session.rows(record, (now, message_id))
    return count


async def _find(session: Session, entry_id: str) -> tuple[int, str]:
    rows = await session.rows(SQL.find_message, (entry_id,))
    if not rows:
        raise errors.NotFound(f"no message has the entry id {entry_id!r:.80}: see `spoold list --all`")
    return rows[0]
