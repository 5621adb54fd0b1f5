"""spoold list, show, events and status: fixed keys for programs, harmless text for people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from hand import Hand

from spoold import Message, Spool
from spoold.cli.display import plain
from spoold.lifecycle import Event
from spoold.outcome import Reply
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nCc: bob@example.org\nSubject: hello\n\nhello\n"
ANN, BOB = "ann@example.com", "bob@example.org"
UNKNOWN = "0" * 32
# an escape sequence, a C1 control, a turn of the reading order, a line feed
EVIL = "\x1b]0;title\x07\x9b31m\u202egpj.exe\u2066\nspoold: fine"


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


# -- list --------------------------------------------------------------------------------------------------------------


def test_list_shows_the_outgoing_queue_in_order(spoold: Command, spool: Spool) -> None:
    entry_ids = spool.submit_many([PLAIN, Message(PLAIN, hold=True), PLAIN])
    spool.abort(entry_ids[0])
    lines = spoold("list").out.splitlines()
    assert [line.split()[:2] for line in lines] == [[entry_ids[1], "held"], [entry_ids[2], "queued"]]
    assert f"app@example.com -> {ANN} +1  hello" in lines[0]
    assert [r["entry_id"] for r in spoold("list", "--json").records] == entry_ids[1:]
    assert [r["state"] for r in spoold("list", "--all", "--json").records] == ["aborted", "held", "queued"]
    assert [r["entry_id"] for r in spoold("list", "--state", "aborted", "--json").records] == entry_ids[:1]
    assert len(spoold("list", "--limit", "1", "--json").records) == 1
    assert spoold("list", "--sender", "nobody@example.com").err == "spoold: no message matches\n"
    assert len(spoold("list", "--destination", "example.org", "--json").records) == 2


def test_an_empty_queue_is_no_error(spoold: Command) -> None:
    done = spoold("list")
    assert (done.code, done.out, done.err) == (0, "", "spoold: the queue is empty\n")
    assert spoold("list", "--json").err == ""


@pytest.mark.parametrize("arguments", [["--state", "gone"], ["--limit", "-1"], ["--limit", "many"], ["more"]])
def test_list_refuses_what_it_does_not_know(spoold: Command, arguments: list[str]) -> None:
    done = spoold("list", *arguments)
    assert (done.code, done.out) == (64, "")
    assert done.err.count("\n") == 1


def test_a_reader_that_ends_early_is_no_error_worth_a_word(spoold: Command, spool: Spool) -> None:
    spool.submit_many([PLAIN] * 3000)
    process = spoold.start("list", "--json")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


# -- show --------------------------------------------------------------------------------------------------------------


def test_show_tells_properties_recipients_and_timeline(spoold: Command, spool: Spool, hand: Hand) -> None:
    entry_id = spool.submit(PLAIN, key="order 7", priority="high")
    hand.fail(BOB)
    hand.settle(hand.claim(ANN), Event.DEFERRED, Reply(451, "4.7.1", "greylisted"))
    done = spoold("show", entry_id)
    for text in ("order 7", "high", f"{ANN}  queued, 1 attempt", "451 4.7.1 greylisted", "550 5.1.1 no such user"):
        assert text in done.out
    lines = done.out.splitlines()
    told = [line.split()[1] for line in lines[lines.index("timeline:") + 1 :]]
    assert told == ["submitted", "failed", "deferred"]


def test_show_has_the_fixed_keys(spoold: Command, spool: Spool) -> None:
    (record,) = spoold("show", "--json", spool.submit(PLAIN)).records
    assert list(record) == [
        "entry_id", "state", "message_flags", "submit_flags", "sender", "subject", "message_size", "client_submit_time",
        "deferred_send_time", "expires_time", "priority", "key", "sent_folder", "recipients", "events",
    ]  # fmt: skip
    assert list(record["recipients"][0]) == [
        "address", "address_type", "kind", "state", "responsibility", "transport", "destination", "attempts",
        "next_attempt_time", "in_doubt", "last_reply",
    ]  # fmt: skip


def test_show_gives_the_message_as_it_was_submitted(spoold: Command, spool: Spool) -> None:
    content = PLAIN + bytes(range(256)) * 3000
    assert spoold("show", "--content", spool.submit(content)).raw == content


def test_show_of_an_unknown_message_gives_66(spoold: Command) -> None:
    for option in ([], ["--json"], ["--content"]):
        done = spoold("show", *option, UNKNOWN)
        assert (done.code, done.out) == (66, "")
        assert UNKNOWN in done.err


# -- events ------------------------------------------------------------------------------------------------------------


def test_events_are_the_change_feed(spoold: Command, spool: Spool) -> None:
    entry_id = spool.submit(PLAIN)
    spool.abort(entry_id)
    records = spoold("events", "--json").records
    assert [r["kind"] for r in records] == ["submitted", "aborted", "aborted"]
    assert list(records[1]) == [
        "seq", "time", "entry_id", "kind", "recipient", "attempt", "transport", "destination", "reply",
    ]  # fmt: skip
    assert [r["seq"] for r in spoold("events", "--json", "--after", str(records[1]["seq"])).records] == [
        records[2]["seq"]
    ]
    assert spoold("events").out.splitlines()[1].split()[2:] == [entry_id, "aborted", ANN]


def test_follow_goes_on_with_what_happens(spoold: Command, spool: Spool) -> None:
    entry_id = spool.submit(PLAIN)
    process = spoold.start("events", "--follow", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["kind"] == "submitted"
    spool.hold(entry_id)
    assert [json.loads(process.stdout.readline())["kind"] for _ in range(2)] == ["held", "held"]
    process.send_signal(2)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, b"")


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_counts_and_tells_of_spoolers_and_transports(spoold: Command, spool: Spool, hand: Hand) -> None:
    spool.submit_many([PLAIN, Message(PLAIN, hold=True)])
    hand.session.connection.execute(
        "INSERT INTO spoold_transport VALUES ('relay', ?, 'suspended', '535 wrong password', 0)", (hand.token,)
    )
    (record,) = spoold("status", "--json").records
    assert record["outgoing"] == 2
    assert (record["messages"]["queued"], record["messages"]["held"]) == (1, 1)
    assert record["spoolers"][0]["alive"] is False
    assert record["transports"][0]["reason"] == "535 wrong password"
    words = spoold("status").out
    for text in ("2 messages, the oldest", "1 queued, 1 held", "DEAD", "relay: suspended since", "535 wrong password"):
        assert text in words


def test_ready_means_that_a_spooler_holds_its_lock(spoold: Command, queue: Path) -> None:
    def judge() -> tuple[int, str, str]:
        done = spoold("status", "--ready")
        return done.code, done.out, done.err

    dead = (69, "", f"spoold: no spooler works on {queue}: start `spoold run`\n")
    assert judge() == dead
    hand = Hand(queue)
    assert judge() == dead  # it says that it lives, but there is no lock
    lock = hand.live()
    assert judge() == (0, "", "")
    os.close(lock)
    assert judge() == dead  # killed: its lock can be had
    hand.close()


# -- what a terminal would act upon ------------------------------------------------------------------------------------


def test_nothing_from_a_queue_reaches_the_terminal_as_a_control(
    spoold: Command, spool: Spool, hand: Hand, queue: Path
) -> None:
    from base64 import b64encode

    subject = b"=?utf-8?b?" + b64encode(EVIL.encode()) + b"?="
    entry_id = spool.submit(PLAIN.replace(b"hello\n\n", subject + b"\n\n"), sent_folder="a\u202eb")
    hand.settle(hand.claim(ANN), Event.DEFERRED, Reply(451, "4.7.1", EVIL))
    connection = hand.session.connection
    connection.execute("UPDATE spoold_recipient SET address = CAST(x'1b5b316dff' AS TEXT) WHERE address = ?", (BOB,))
    connection.execute("INSERT INTO spoold_transport VALUES (?, ?, 'suspended', ?, 0)", (EVIL, hand.token, EVIL))
    for arguments in (["list"], ["show", entry_id], ["events"], ["status"], ["abort", entry_id], ["abort", entry_id]):
        done = spoold(*arguments)
        for letter in "\x1b\x07\x9b\u202e\u2066":
            assert letter not in done.out + done.err, arguments
        assert all(line.isprintable() for line in (done.out + done.err).splitlines())
        assert "\nspoold: fine" not in done.out + done.err
    for arguments in (
        ["list", "--all", "--json"],
        ["show", "--json", entry_id],
        ["events", "--json"],
        ["status", "--json"],
    ):
        done = spoold(*arguments)
        assert done.code == 0
        assert done.out.isascii()
        assert done.out.replace("\n", "").isprintable()
        assert done.records


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, café, 日本", "plain, café, 日本"),
        ("a\tb\r\nc\x00", "a\\tb\\r\\nc\\x00"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x85\x9b", "\\x85\\x9b"),
        ("\u202e\u2028\ufeff", "\\u202e\\u2028\\ufeff"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("narrow\u202fand\u00a0hard", "narrow and hard"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_what_is_harmless_is_shown_and_the_rest_is_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_an_output_of_another_encoding_is_no_error(spoold: Command, spool: Spool) -> None:
    spool.submit(PLAIN.replace(b"hello\n\n", "café\n\n".encode()))
    done = subprocess.run(
        [sys.executable, "-m", "spoold", "list"],
        capture_output=True, env=spoold.environment | {"PYTHONIOENCODING": "ascii"}, cwd=spoold.folder, check=True,
    )  # fmt: skip
    assert b"caf\\xe9" in done.stdout
