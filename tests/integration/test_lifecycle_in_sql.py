"""The SQL does to a row exactly what lifecycle.step says: every state, event, mark, wish and policy."""

import contextlib
import sqlite3
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from spoold import errors
from spoold.lifecycle import FINAL, IN_FLIGHT, WITHDRAWABLE, Event, InDoubtPolicy, Situation, State, message_state, step
from spoold.outcome import Reply
from spoold.store import database, spooling, submission
from spoold.store.database import QueuePath
from spoold.store.session import SyncSession, run

NOW = 1_800_000_000_000
SPOOLER = 7
MINE, OTHER = SPOOLER * spooling.CLAIMS + 1, (SPOOLER + 1) * spooling.CLAIMS + 1  # tokens
ENTRY_ID = "0192f0c1d2e37f40a1b2c3d4e5f60718"
RESULTS = {
    Event.GIVE_BACK, Event.ACCEPTED, Event.DEFERRED, Event.REJECTED, Event.NOT_MINE, Event.DOUBT, Event.VIOLATION,
}  # fmt: skip
SITUATIONS = [Situation(*parts) for parts in product(State, (False, True), (False, True))]
POSSIBLE = [now for now in SITUATIONS if not (now.wish and now.state in WITHDRAWABLE)]
COLUMNS = "state, in_doubt, abort_wish, token, attempts, due, responsibility, reply_text"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    where = QueuePath(str(tmp_path / "queue.db"))
    database.create(where)
    connection = database.open_queue(where)
    connection.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here
    for spooler in (SPOOLER, SPOOLER + 1):
        connection.execute(
            "INSERT INTO spoold_spooler (id, host, pid, mark, started) VALUES (?, 'h', 1, 'm', 0)", (spooler,)
        )
    yield connection
    connection.close()


def place(queue: sqlite3.Connection, now: Situation, stage: str = "ready", token: int = MINE) -> int:
    """A message with one recipient in that situation, as nothing but this file could make it."""
    queue.execute("DELETE FROM spoold_recipient")
    queue.execute("DELETE FROM spoold_message")
    queue.execute("UPDATE spoold_spooler SET ended = NULL")
    finished = now.state.value if now.state in FINAL else None
    ((message,),) = queue.execute(
        "INSERT INTO spoold_message (entry_id, stage, message_flags, sender, message_size, client_submit_time, final_state,"
        " intake_token) VALUES (?, ?, ?, 'ann@example.com', 10, ?, ?, ?) RETURNING id",
        (
            ENTRY_ID, "finished" if finished else stage, 47 if stage == "ready" else 43, NOW - 10, finished,
            MINE if stage == "submitted" and not finished else None,
        ),
    ).fetchall()  # fmt: skip
    ((recipient,),) = queue.execute(
        "INSERT INTO spoold_recipient (message_id, kind, address, state, token, in_doubt, abort_wish, due, changed)"
        " VALUES (?, 'to', 'bob@example.com', ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            message, now.state, token if now.state in IN_FLIGHT else None, now.marked, now.wish,
            NOW - 10 if stage == "ready" else None, NOW - 10,
        ),
    ).fetchall()  # fmt: skip
    return int(recipient)


def row(queue: sqlite3.Connection) -> tuple[object, ...]:
    (found,) = queue.execute(f"SELECT {COLUMNS} FROM spoold_recipient").fetchall()
    return tuple(found)


def situation(queue: sqlite3.Connection) -> Situation:
    state, marked, wish, token, *_ = row(queue)
    assert (token is not None) == (state in IN_FLIGHT)
    return Situation(State(str(state)), bool(marked), bool(wish))


def settle(queue: sqlite3.Connection, recipient: int, event: Event, policy: InDoubtPolicy, token: int = MINE) -> bool:
    reply = Reply(250, None, "so it was said")
    result = spooling.Result(recipient, token, event, reply, "relay", "there", due=NOW + 60_000, counts=True)
    (settled,) = run(spooling.settle(SyncSession(queue), [result], policy, NOW))
    assert settled.after is None or settled.after == situation(queue)
    return settled.after is not None


def happen(queue: sqlite3.Connection, recipient: int, now: Situation, event: Event, policy: InDoubtPolicy) -> None:
    """Make the event happen by what the spooler or a client calls."""
    session = SyncSession(queue)
    if event is Event.CLAIM:
        run(spooling.claim(session, MINE, None, 10, NOW))
    elif event is Event.LOCK:
        run(spooling.lock(session, MINE, [[recipient]]))
    elif event is Event.LATE_ACCEPTED:
        settle(queue, recipient, Event.ACCEPTED, policy, OTHER)
    elif event in RESULTS or (event is Event.EXPIRE and now.state in IN_FLIGHT):
        settle(queue, recipient, event, policy)
    elif event is Event.LEASE_LOST:
        run(spooling.recover(session, SPOOLER, policy, "its lock is free", NOW))
    elif event is Event.EXPIRE:
        run(spooling.expire(session, NOW, NOW))
    elif event is Event.ABORT:
        with contextlib.suppress(errors.AbortError):
            run(submission.abort(session, ENTRY_ID, NOW))
    elif event is Event.HOLD:
        run(submission.hold(session, [ENTRY_ID], NOW))
    elif event is Event.RELEASE:
        run(submission.release(session, [ENTRY_ID], NOW))
    else:
        assert event is Event.REFUSE
        ((message,),) = queue.execute("SELECT id FROM spoold_message").fetchall()
        unchecked = spooling.Unchecked(message, ENTRY_ID, "ann@example.com", 10, NOW, None)
        check = spooling.Checked(unchecked, Reply.local("5.6.0", "no header"))
        run(spooling.finish_check(session, MINE, [check], NOW))


@pytest.mark.parametrize("policy", InDoubtPolicy)
@pytest.mark.parametrize("event", Event)
def test_the_sql_takes_a_recipient_where_the_table_says(
    queue: sqlite3.Connection, event: Event, policy: InDoubtPolicy
) -> None:
    stage = "submitted" if event is Event.REFUSE else "ready"
    different: list[tuple[object, ...]] = []
    for now in POSSIBLE:
        recipient = place(queue, now, stage)
        if now.state not in IN_FLIGHT and event in RESULTS - {Event.VIOLATION}:
            continue  # nobody holds it, so that a result is late: LATE_ACCEPTED, or the test below
        before = row(queue)
        happen(queue, recipient, now, event, policy)
        expected = step(now, event, policy)
        if situation(queue) != (now if expected is None else expected):
            different.append((now, event, situation(queue), expected))
        if expected is None and row(queue) != before:
            different.append((now, event, row(queue), before))
    assert not different


def test_a_wish_can_only_stand_where_the_table_keeps_it(queue: sqlite3.Connection) -> None:
    for now in SITUATIONS:
        if now not in POSSIBLE:
            with pytest.raises(sqlite3.IntegrityError):
                place(queue, now)


@pytest.mark.parametrize("policy", InDoubtPolicy)
def test_a_result_under_another_token_changes_nothing(queue: sqlite3.Connection, policy: InDoubtPolicy) -> None:
    late = RESULTS - {Event.VIOLATION} | {Event.EXPIRE}
    for now, event in product(POSSIBLE, late):
        recipient = place(queue, now)
        before = row(queue)
        if event is Event.ACCEPTED and now.state not in IN_FLIGHT:
            continue  # the late acceptance, above
        assert not settle(queue, recipient, event, policy, OTHER)
        assert row(queue) == before


def test_a_violation_counts_whoever_holds_the_recipient(queue: sqlite3.Connection) -> None:
    for now in POSSIBLE:
        recipient = place(queue, now)
        assert settle(queue, recipient, Event.VIOLATION, InDoubtPolicy.RETRY, OTHER) == (now.state is not State.SENT)
        assert situation(queue) == (step(now, Event.VIOLATION) or now)


@pytest.mark.parametrize("policy", InDoubtPolicy)
def test_nobody_but_its_owner_locks_or_loses_a_claim(queue: sqlite3.Connection, policy: InDoubtPolicy) -> None:
    for now in POSSIBLE:
        recipient = place(queue, now, token=OTHER)
        before = row(queue)
        assert run(spooling.lock(SyncSession(queue), MINE, [[recipient]])) == [[recipient]]
        assert run(spooling.recover(SyncSession(queue), SPOOLER, policy, "dead", NOW)) == []
        assert row(queue) == before


def test_delete_from_the_outbox_is_an_abort_or_nothing_at_all(queue: sqlite3.Connection) -> None:
    for now in POSSIBLE:
        place(queue, now)
        before = row(queue)
        after = step(now, Event.ABORT)
        if after is not None and after.state is State.ABORTED:
            deleted = queue.execute("DELETE FROM spoold_outbox RETURNING entry_id").fetchall()
            assert deleted == [(ENTRY_ID,)]
            assert situation(queue) == after
            continue
        if after is not None:  # locked, or marked: a partial withdrawal is not what DELETE does
            with pytest.raises(sqlite3.IntegrityError, match=r"^MAPI_E_UNABLE_TO_ABORT: "):
                queue.execute("DELETE FROM spoold_outbox")
        else:
            assert queue.execute("DELETE FROM spoold_outbox RETURNING entry_id").fetchall() == []
        assert row(queue) == before


def test_an_abort_answers_with_what_it_did(queue: sqlite3.Connection) -> None:
    for now in POSSIBLE:
        place(queue, now)
        after = step(now, Event.ABORT)
        if after is not None and after.state is State.ABORTED:
            assert run(submission.abort(SyncSession(queue), ENTRY_ID, NOW)).aborted == ("bob@example.com",)
            continue
        waiting = now.state is State.IN_DOUBT or after is not None
        with pytest.raises(errors.UnableToAbort if waiting else errors.NotInQueue) as caught:
            run(submission.abort(SyncSession(queue), ENTRY_ID, NOW))
        became = after or now
        assert caught.value.result == errors.AbortResult(
            sent=("bob@example.com",) if became.state is State.SENT else (),
            locked=("bob@example.com",) if became.state is State.LOCKED else (),
            in_doubt=("bob@example.com",) if became.state is State.IN_DOUBT else (),
        )


def test_a_delivery_is_locked_as_a_whole_or_not_at_all(queue: sqlite3.Connection) -> None:
    recipient = place(queue, Situation(State.CLAIMED))
    queue.execute(
        "INSERT INTO spoold_recipient (message_id, kind, address, state, token, due, changed)"
        " SELECT message_id, kind, address, state, token, due, changed FROM spoold_recipient"
        " UNION ALL SELECT message_id, kind, address, 'aborted', NULL, due, changed FROM spoold_recipient"
    )
    ids = [id_ for (id_,) in queue.execute("SELECT id FROM spoold_recipient ORDER BY id")]
    assert ids[0] == recipient
    assert run(spooling.lock(SyncSession(queue), MINE, [[ids[0], ids[2]], [ids[1]]])) == [[ids[2]], []]
    states = [state for (state,) in queue.execute("SELECT state FROM spoold_recipient ORDER BY id")]
    assert states == ["claimed", "locked", "aborted"]


def test_the_views_call_a_message_what_its_recipients_make_of_it(queue: sqlite3.Connection) -> None:
    for now in POSSIBLE:
        place(queue, now)
        ((shown,),) = queue.execute("SELECT state FROM spoold_status").fetchall()
        assert shown == message_state({now.state})
        listed = queue.execute("SELECT state FROM spoold_outbox").fetchall()
        assert listed == ([] if now.state in FINAL else [(shown,)])
