"""spoold abort: a definite answer by exit code, in words and as JSON, without a daemon."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import Command
from hand import Hand

from spoold import Message, Spool
from spoold.lifecycle import Event
from spoold.outcome import Reply
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nCc: bob@example.org\nSubject: hello\n\nhello\n"
ANN, BOB = "ann@example.com", "bob@example.org"
UNKNOWN = "0" * 32


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create(QueuePath.of(tmp_path / "queue.db"))
    return tmp_path / "queue.db"


@pytest.fixture
def spoold(tmp_path: Path, queue: Path) -> Command:
    return Command(tmp_path, queue)


@pytest.fixture
def spool(queue: Path) -> Iterator[Spool]:
    with Spool(queue) as spool:
        yield spool


@pytest.fixture
def hand(queue: Path) -> Iterator[Hand]:
    hand = Hand(queue)
    yield hand
    hand.close()


def until(spool: Spool, entry_id: str, kind: str) -> None:
    """Wait for an event of the timeline, from commit to commit."""
    for _ in spool.changes():
        if any(event.kind == kind for event in spool.get(entry_id).events):
            return


def nothing(hand: Hand) -> object:
    return None


SITUATIONS: dict[str, tuple[Callable[[Hand], object], int, str, dict[str, list[str]], str]] = {
    "waiting": (nothing, 0, "S_OK", {"aborted": [ANN, BOB]}, "aborted"),
    "claimed": (lambda hand: hand.claim(), 0, "S_OK", {"aborted": [ANN, BOB]}, "aborted"),
    "sent": (lambda hand: hand.send(), 3, "MAPI_E_NOT_IN_QUEUE", {"sent": [ANN, BOB]}, "sent"),
    "failed": (lambda hand: hand.fail(), 3, "MAPI_E_NOT_IN_QUEUE", {}, "failed"),
    "locked": (lambda hand: hand.lock(), 4, "MAPI_E_UNABLE_TO_ABORT", {"locked": [ANN, BOB]}, "locked"),
    "one locked": (
        lambda hand: hand.lock(ANN), 5, "MAPI_W_PARTIAL_COMPLETION", {"aborted": [BOB], "locked": [ANN]}, "locked",
    ),
    "one sent": (
        lambda hand: hand.send(ANN), 5, "MAPI_W_PARTIAL_COMPLETION", {"aborted": [BOB], "sent": [ANN]}, "partial",
    ),
    "in doubt": (
        lambda hand: hand.settle(hand.lock(ANN), Event.DOUBT), 5, "MAPI_W_PARTIAL_COMPLETION",
        {"aborted": [BOB], "in_doubt": [ANN]}, "in_doubt",
    ),
}  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_answer_is_told_by_exit_code_in_words_and_as_json(
    spoold: Command, spool: Spool, hand: Hand, situation: str
) -> None:
    prepare, code, name, recipients, state = SITUATIONS[situation]
    entry_id = spool.submit(PLAIN)
    prepare(hand)
    done = spoold("abort", "--json", entry_id)
    (record,) = done.records
    assert (done.code, done.err) == (code, "")
    assert list(record) == ["entry_id", "code", "state", "aborted", "sent", "locked", "in_doubt"]
    nobody: dict[str, list[str]] = {"aborted": [], "sent": [], "locked": [], "in_doubt": []}
    assert record == {"entry_id": entry_id, "code": name, "state": state} | nobody | recipients

    again = spoold("abort", entry_id)  # in words, and the second time nothing is withdrawn
    assert again.code in (3, 4)
    assert again.out == ""
    assert again.err.startswith(f"spoold: {entry_id}: noth")


def test_words_name_the_recipients(spoold: Command, spool: Spool, hand: Hand) -> None:
    entry_id = spool.submit(PLAIN)
    hand.send(ANN)
    assert spoold("abort", entry_id).out == f"{entry_id}: aborted {BOB}; sent {ANN}\n"


@pytest.mark.parametrize("entry_id", [UNKNOWN, "7", b"\xff", "\x1b[31m"])
def test_an_unknown_entry_id_gives_66(spoold: Command, entry_id: str | bytes) -> None:
    done = spoold("abort", entry_id)
    assert (done.code, done.out) == (66, "")
    assert done.err.startswith("spoold: no message has the entry id")
    assert done.err.count("\n") == 1
    assert "\x1b" not in done.err


def test_several_are_all_tried_and_the_highest_code_counts(spoold: Command, spool: Spool, hand: Hand) -> None:
    sent = spool.submit(PLAIN)
    hand.send()
    first, second = spool.submit_many([PLAIN, PLAIN])
    done = spoold("abort", "--json", first, sent, second)
    assert [record["code"] for record in done.records] == ["S_OK", "MAPI_E_NOT_IN_QUEUE", "S_OK"]
    assert done.code == 3
    third = spool.submit(PLAIN)
    done = spoold("abort", UNKNOWN, third)
    assert done.code == 66
    assert spool.get(third).state == "aborted"


def test_many_are_withdrawn_by_sender_destination_or_all(spoold: Command, spool: Spool) -> None:
    first, second, third = spool.submit_many([PLAIN, Message(PLAIN, sender="x@example.com"), PLAIN])
    done = spoold("abort", "--sender", "x@example.com", "--json")
    assert [record["entry_id"] for record in done.records] == [second]
    assert done.code == 0
    done = spoold("abort", "--destination", "example.org")
    assert done.out == f"{first}: aborted {BOB}\n{third}: aborted {BOB}\n"
    assert spoold("abort", "--all").out == f"{first}: aborted {ANN}\n{third}: aborted {ANN}\n"
    done = spoold("abort", "--all")
    assert (done.code, done.out, done.err) == (0, "", "spoold: nothing in the outgoing queue matches\n")


def test_many_of_which_some_are_locked_give_the_highest_code(spoold: Command, spool: Spool, hand: Hand) -> None:
    spool.submit(PLAIN)
    hand.lock(ANN)
    spool.submit(PLAIN)
    done = spoold("abort", "--all", "--json")
    assert [r["code"] for r in done.records] == ["MAPI_W_PARTIAL_COMPLETION", "S_OK"]
    assert done.code == 5
    assert [r["code"] for r in spoold("abort", "--all", "--json").records] == ["MAPI_E_UNABLE_TO_ABORT"]


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (Event.DEFERRED, (0, "S_OK", {"aborted": [BOB, ANN]})),
        (Event.ACCEPTED, (5, "MAPI_W_PARTIAL_COMPLETION", {"aborted": [BOB], "sent": [ANN]})),
        (Event.DOUBT, (5, "MAPI_W_PARTIAL_COMPLETION", {"aborted": [BOB], "in_doubt": [ANN]})),
        (Event.REJECTED, (0, "S_OK", {"aborted": [BOB]})),
    ],
)
def test_wait_answers_when_what_is_locked_has_an_end(
    spoold: Command, spool: Spool, hand: Hand, event: Event, answer: tuple[int, str, dict[str, list[str]]]
) -> None:
    entry_id = spool.submit(PLAIN)
    locked = hand.lock(ANN)
    process = spoold.start("abort", "--wait", "60", "--json", entry_id)
    until(spool, entry_id, "abort_wish")
    hand.settle(locked, event, Reply(451, "4.3.0", "later"))
    out, err = process.communicate()
    record = json.loads(out)
    found = {kind: record[kind] for kind in ("aborted", "sent", "locked", "in_doubt") if record[kind]}
    assert (process.returncode, record["code"], found) == answer
    assert err == b""


def test_wait_for_a_message_of_which_everything_was_locked(spoold: Command, spool: Spool, hand: Hand) -> None:
    entry_id = spool.submit(PLAIN)
    locked = hand.lock()
    process = spoold.start("abort", "--wait", "60", entry_id)
    until(spool, entry_id, "abort_wish")
    hand.settle(locked, Event.ACCEPTED, Reply(250, "2.0.0", "taken"))
    out, _ = process.communicate()
    assert (process.returncode, out.decode()) == (3, f"{entry_id}: sent {ANN}, {BOB}\n")


def test_wait_ends_with_its_seconds(spoold: Command, spool: Spool, hand: Hand) -> None:
    entry_id = spool.submit(PLAIN)
    hand.lock()
    done = spoold("abort", "--wait", "0.01", "--json", entry_id)
    assert done.code == 4
    assert done.records[0]["locked"] == [ANN, BOB]


@pytest.mark.parametrize("arguments", [[], [UNKNOWN, "--all"], [UNKNOWN, "--sender", "x"], ["--all", "--wait", "soon"]])
def test_what_makes_no_sense_is_a_usage_error_and_nothing_is_withdrawn(
    spoold: Command, spool: Spool, arguments: list[str]
) -> None:
    entry_id = spool.submit(PLAIN)
    done = spoold("abort", *arguments)
    assert (done.code, done.out) == (64, "")
    assert done.err.count("\n") == 1
    assert spool.get(entry_id).state == "queued"
