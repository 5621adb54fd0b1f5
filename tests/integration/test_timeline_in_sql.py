"""The triggers that write the timeline and end a message, in the transaction of the transition itself."""

import sqlite3
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.errors import AbortResult
from spoold.lifecycle import FINAL, Event, InDoubtPolicy, State, message_state
from spoold.message import Addressee, MessageFlags, Submission
from spoold.outcome import Reply
from spoold.store import database, spooling, submission
from spoold.store.database import QueuePath
from spoold.store.session import SyncSession, run

NOW = 1_800_000_000_000
SPOOLER = 1
TOKEN = SPOOLER * spooling.CLAIMS + 1
SUBMIT, UNSENT = MessageFlags.SUBMIT, MessageFlags.UNSENT


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    where = QueuePath(str(tmp_path_factory.mktemp("queue") / "queue.db"))
    database.create(where)
    connection = database.open_queue(where)
    connection.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here
    connection.execute(
        "INSERT INTO spoold_spooler (id, host, pid, mark, started) VALUES (?, 'h', 1, 'm', 0)", (SPOOLER,)
    )
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def _empty(queue: sqlite3.Connection) -> None:
    empty(queue)


def empty(queue: sqlite3.Connection) -> None:
    for table in ("message", "recipient", "content", "event", "key"):
        queue.execute(f"DELETE FROM spoold_{table}")


def submit(queue: sqlite3.Connection, count: int = 1, number: int = 1, **properties: object) -> list[int]:
    """A message to so many recipients; returns their ids."""
    message = Submission(
        entry_id=f"{number:032x}", sender="ann@example.com", content=b"Subject: x\n\n", subject="x", eight_bit=False,
        recipients=tuple(Addressee(f"r{n}@example.com") for n in range(count)), **properties,  # type: ignore[arg-type]
    )  # fmt: skip
    run(submission.submit(SyncSession(queue), [message], NOW))
    return [
        id_
        for (id_,) in queue.execute(
            "SELECT r.id FROM spoold_recipient r JOIN spoold_message m ON m.id = r.message_id WHERE m.entry_id = ? ORDER BY r.id",
            (message.entry_id,),
        )
    ]


def lock(queue: sqlite3.Connection, ids: Sequence[int]) -> None:
    run(spooling.claim(SyncSession(queue), TOKEN, None, 100, NOW))
    assert run(spooling.lock(SyncSession(queue), TOKEN, [ids])) == [[]]


def settle(
    queue: sqlite3.Connection, id_: int, event: Event, policy: InDoubtPolicy = InDoubtPolicy.RETRY, counts: bool = True
) -> None:
    reply = Reply(450, "4.2.0", "so it was said")
    result = spooling.Result(id_, TOKEN, event, reply, "relay", "there:25", NOW + 60_000, counts)
    (settled,) = run(spooling.settle(SyncSession(queue), [result], policy, NOW + 1))
    assert settled.after is not None


def abort(queue: sqlite3.Connection) -> AbortResult:
    return run(submission.abort(SyncSession(queue), f"{1:032x}", NOW + 2))


def one(queue: sqlite3.Connection, sql: str) -> tuple[object, ...]:
    (found,) = queue.execute(sql).fetchall()
    return tuple(found)


def kinds(queue: sqlite3.Connection) -> list[str]:
    return [kind for (kind,) in queue.execute("SELECT kind FROM spoold_event ORDER BY seq")]


# -- the end of a message ----------------------------------------------------------------------------------------------

ends = st.lists(st.sampled_from(sorted(FINAL)), min_size=1, max_size=6).filter(
    lambda states: set(states) != {State.EXPANDED}
)


@given(ends, st.randoms(use_true_random=False))
def test_a_message_ends_with_its_last_recipient_in_the_state_that_they_make(
    queue: sqlite3.Connection, states: list[State], random: object
) -> None:
    empty(queue)
    ids = submit(queue, len(states), key="k")
    last = list(zip(ids, states, strict=True))
    random.shuffle(last)  # type: ignore[attr-defined]
    last.sort(key=lambda pair: pair[1] is not State.EXPANDED)  # aliases are replaced at intake, before anything else
    now = dict.fromkeys(ids, State.QUEUED)
    for id_, state in last:
        assert one(queue, "SELECT stage, final_state, message_flags & 12 FROM spoold_message") == (
            "ready",
            None,
            SUBMIT | UNSENT,
        )
        assert one(queue, "SELECT state FROM spoold_status") == (message_state(set(now.values())),)
        marked = state is State.IN_DOUBT
        queue.execute(
            "UPDATE spoold_recipient SET state = ?, in_doubt = ?, changed = ? WHERE id = ?",
            (state, marked, NOW + id_, id_),
        )
        now[id_] = state
    final = message_state(set(states))
    assert one(queue, "SELECT stage, final_state, finished_time FROM spoold_message") == (
        "finished",
        final,
        NOW + last[-1][0],
    )
    assert one(queue, "SELECT state FROM spoold_status") == (final,)
    # MAPI: a message that was aborted is a draft again; else neither submitted nor unsent
    flags = UNSENT if final == "aborted" else 0
    assert one(queue, "SELECT message_flags & 12 FROM spoold_message") == (flags,)
    assert one(queue, "SELECT count(*) FROM spoold_key") == (final != "aborted",)


def test_an_abort_of_all_recipients_is_one_end(queue: sqlite3.Connection) -> None:
    submit(queue, 3, key="k")
    assert len(abort(queue).aborted) == 3
    assert kinds(queue) == ["submitted", "aborted", "aborted", "aborted"]
    assert one(queue, "SELECT final_state, finished_time FROM spoold_message") == ("aborted", NOW + 2)
    submit(queue, 1, number=2, key="k")  # its key is free
    assert one(queue, "SELECT entry_id FROM spoold_key") == (f"{2:032x}",)


def test_an_abort_of_some_recipients_leaves_the_key_taken(queue: sqlite3.Connection) -> None:
    ids = submit(queue, 3, key="k")
    lock(queue, ids[:1])
    settle(queue, ids[0], Event.ACCEPTED)
    result = abort(queue)
    assert (len(result.aborted), len(result.sent)) == (2, 1)
    assert result.partial
    assert one(queue, "SELECT final_state, message_flags & 12 FROM spoold_message") == ("partial", 0)
    assert one(queue, "SELECT count(*) FROM spoold_key") == (1,)


def test_delete_aborts_several_messages_each_to_its_end(queue: sqlite3.Connection) -> None:
    for number in (1, 2, 3):
        submit(queue, 2, number=number)
    assert (
        len(queue.execute("DELETE FROM spoold_outbox WHERE entry_id <> ? RETURNING 1", (f"{2:032x}",)).fetchall()) == 2
    )
    states = queue.execute("SELECT final_state FROM spoold_message ORDER BY id").fetchall()
    assert states == [("aborted",), (None,), ("aborted",)]


def test_a_message_that_is_sent_can_ask_to_be_deleted_and_only_its_timeline_stays(queue: sqlite3.Connection) -> None:
    ids = submit(queue, 2, delete_after_submit=True, key="k")
    lock(queue, ids)
    settle(queue, ids[0], Event.ACCEPTED)
    assert one(queue, "SELECT count(*) FROM spoold_recipient") == (2,)
    settle(queue, ids[1], Event.ACCEPTED)
    for table in ("message", "recipient", "content"):
        assert one(queue, f"SELECT count(*) FROM spoold_{table}") == (0,)
    assert kinds(queue) == ["submitted", "sent", "sent"]
    assert one(queue, "SELECT entry_id FROM spoold_key") == (f"{1:032x}",)


@pytest.mark.parametrize("event", [Event.REJECTED, Event.DOUBT])
def test_what_was_not_sent_stays_to_be_seen_even_if_it_asked_to_be_deleted(
    queue: sqlite3.Connection, event: Event
) -> None:
    ids = submit(queue, 2, delete_after_submit=True)
    lock(queue, ids)
    settle(queue, ids[0], Event.ACCEPTED)
    if event is Event.DOUBT:
        queue.execute("UPDATE spoold_recipient SET abort_wish = 1 WHERE id = ?", (ids[1],))
    settle(queue, ids[1], event)
    assert one(queue, "SELECT stage FROM spoold_message") == ("finished",)
    assert one(queue, "SELECT count(*) FROM spoold_content") == (1,)


def test_a_late_acceptance_makes_sent_of_a_message_that_was_in_doubt(queue: sqlite3.Connection) -> None:
    (id_,) = submit(queue, delete_after_submit=True)
    lock(queue, [id_])
    queue.execute("UPDATE spoold_recipient SET abort_wish = 1")
    run(spooling.recover(SyncSession(queue), SPOOLER, InDoubtPolicy.RETRY, "dead", NOW))
    assert one(queue, "SELECT final_state FROM spoold_message") == ("in_doubt",)
    settle(queue, id_, Event.ACCEPTED)
    assert one(queue, "SELECT count(*) FROM spoold_message") == (0,)
    queue.execute("UPDATE spoold_spooler SET ended = NULL")


def test_a_violation_turns_even_an_aborted_message_into_one_in_doubt(queue: sqlite3.Connection) -> None:
    (id_,) = submit(queue)
    abort(queue)
    settle(queue, id_, Event.VIOLATION)
    assert one(queue, "SELECT stage, final_state, message_flags & 12 FROM spoold_message") == (
        "finished",
        "in_doubt",
        0,
    )


# -- the timeline ------------------------------------------------------------------------------------------------------


def test_claims_locks_and_what_is_given_back_leave_no_trace(queue: sqlite3.Connection) -> None:
    (id_,) = submit(queue)
    lock(queue, [id_])
    settle(queue, id_, Event.GIVE_BACK, counts=False)
    run(spooling.claim(SyncSession(queue), TOKEN, "there:25", 1, NOW + 120_000))
    settle(queue, id_, Event.NOT_MINE, counts=False)
    assert kinds(queue) == ["submitted"]


@pytest.mark.parametrize(
    ("event", "policy", "kind"),
    [
        (Event.ACCEPTED, InDoubtPolicy.RETRY, "sent"),
        (Event.REJECTED, InDoubtPolicy.RETRY, "failed"),
        (Event.DEFERRED, InDoubtPolicy.RETRY, "deferred"),
        (Event.DOUBT, InDoubtPolicy.RETRY, "doubt"),
        (Event.DOUBT, InDoubtPolicy.HOLD, "held"),
        (Event.VIOLATION, InDoubtPolicy.RETRY, "in_doubt"),
    ],
)
def test_a_result_is_told_with_its_attempt_and_reply(
    queue: sqlite3.Connection, event: Event, policy: InDoubtPolicy, kind: str
) -> None:
    (id_,) = submit(queue)
    lock(queue, [id_])
    settle(queue, id_, event, policy)
    assert one(
        queue,
        "SELECT kind, at, entry_id, recipient_id, address, attempt, transport, destination, reply_code, reply_enhanced,"
        " reply_text FROM spoold_event ORDER BY seq DESC LIMIT 1",
    ) == (kind, NOW + 1, f"{1:032x}", id_, "r0@example.com", 1, "relay", "there:25", 450, "4.2.0", "so it was said")
    assert kinds(queue) == ["submitted", kind]


@pytest.mark.parametrize(("policy", "kind"), [(InDoubtPolicy.RETRY, "doubt"), (InDoubtPolicy.HOLD, "held")])
def test_what_a_dead_spooler_had_locked_is_told_what_it_had_claimed_is_not(
    queue: sqlite3.Connection, policy: InDoubtPolicy, kind: str
) -> None:
    locked, _ = submit(queue, 2)
    lock(queue, [locked])
    run(spooling.recover(SyncSession(queue), SPOOLER, policy, "dead", NOW))
    queue.execute("UPDATE spoold_spooler SET ended = NULL")
    assert kinds(queue) == ["submitted", kind]
    assert one(queue, "SELECT recipient_id, attempt FROM spoold_event WHERE recipient_id") == (locked, 1)


def test_a_persons_doings_are_told(queue: sqlite3.Connection) -> None:
    (id_,) = submit(queue)
    session, entry_id = SyncSession(queue), f"{1:032x}"
    run(submission.hold(session, [entry_id], NOW))
    run(submission.release(session, [entry_id], NOW))
    run(submission.flush(session, [entry_id], NOW))
    lock(queue, [id_])
    with pytest.raises(Exception, match="being handed over"):
        abort(queue)
    with pytest.raises(Exception, match="being handed over"):
        abort(queue)  # the wish is there already
    settle(queue, id_, Event.DEFERRED)
    assert kinds(queue) == ["submitted", "held", "released", "flushed", "abort_wish", "aborted"]
