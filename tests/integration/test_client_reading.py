"""What a program reads: records with fixed keys, lists in order, the timeline, the counts; a long history costs nothing."""

from __future__ import annotations

import dataclasses
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from both import KINDS, Both
from hand import NOW, Hand

from spoold import Message, Spool, UsageError
from spoold.lifecycle import Event
from spoold.outcome import Reply
from spoold.store import reading, selection
from spoold.store.database import QueuePath, create, open_queue
from spoold.store.records import iso

PLAIN = b"From: app@example.com\nTo: ann@example.com\nCc: bob@example.org\nSubject: hello\n\nhello\n"
ANN, BOB = "ann@example.com", "bob@example.org"
LATER = Reply(451, "4.7.1", "greylisted")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create(QueuePath.of(tmp_path / "queue.db"))
    return tmp_path / "queue.db"


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def spool(request: pytest.FixtureRequest, queue: Path) -> AsyncIterator[Both]:
    async with Both(request.param, queue) as both:
        yield both


@pytest.fixture
def hand(queue: Path) -> Iterator[Hand]:
    hand = Hand(queue)
    yield hand
    hand.close()


# -- one message -------------------------------------------------------------------------------------------------------


async def test_a_record_has_the_fixed_keys(spool: Both) -> None:
    record = dataclasses.asdict(await spool.get(await spool.submit(PLAIN)))
    assert list(record) == [
        "entry_id", "state", "message_flags", "submit_flags", "sender", "subject", "message_size", "client_submit_time",
        "deferred_send_time", "expires_time", "priority", "key", "sent_folder", "recipients", "events",
    ]  # fmt: skip
    assert list(record["recipients"][0]) == [
        "address", "address_type", "kind", "state", "responsibility", "transport", "destination", "attempts",
        "next_attempt_time", "in_doubt", "last_reply",
    ]  # fmt: skip
    assert list(record["events"][0]) == [
        "seq", "time", "entry_id", "kind", "recipient", "attempt", "transport", "destination", "reply",
    ]  # fmt: skip
    assert TIME.fullmatch(record["client_submit_time"])
    assert (record["message_flags"], record["submit_flags"]) == (0x2F, 0)
    assert record["priority"] == "normal"


async def test_a_record_tells_the_last_reply_and_the_next_attempt(spool: Both, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    hand.fail(BOB)
    hand.settle(hand.claim(ANN), Event.DEFERRED, LATER)
    ann, bob = (await spool.get(entry_id)).recipients
    assert (ann.state, ann.attempts, ann.transport, ann.destination) == ("queued", 1, "relay", "mx.example.com")
    assert (ann.next_attempt_time, ann.last_reply) == (iso(NOW), LATER)
    assert (bob.state, bob.responsibility, bob.next_attempt_time) == ("failed", True, None)
    assert bob.last_reply == Reply(550, "5.1.1", "no such user")


async def test_claimed_and_locked_are_told_as_such(spool: Both, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    hand.claim(ANN)
    hand.lock(BOB)
    record = await spool.get(entry_id)
    assert [(r.state, r.next_attempt_time) for r in record.recipients] == [("claimed", None), ("locked", None)]
    assert (record.state, record.submit_flags) == ("locked", 1)


async def test_the_timeline_tells_everything_in_order(spool: Both, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    hand.settle(hand.claim(ANN), Event.DEFERRED, LATER)
    hand.send(ANN)
    await spool.abort(entry_id)
    record = await spool.get(entry_id)
    told = [(e.kind, e.recipient, e.reply and e.reply.code) for e in record.events]
    assert told == [
        ("submitted", None, None),
        ("deferred", ANN, 451),
        ("sent", ANN, 250),
        ("aborted", BOB, None),
    ]
    assert await spool.events() == list(record.events)
    assert await spool.events(after=record.events[1].seq, limit=1) == [record.events[2]]


async def test_text_that_is_no_utf_8_and_times_beyond_the_calendar_stop_nobody(spool: Both, queue: Path) -> None:
    with sqlite3.connect(queue) as other:
        other.execute(
            "INSERT INTO spoold_outbox (sender, recipients, content, send_at)"
            " VALUES (CAST(x'61ff' AS TEXT), '[\"ann@example.com\"]', 'x', 9e15)"
        )
    other.close()
    ((message),) = await spool.list()
    assert message.sender == "a\udcff"
    assert message.deferred_send_time == "9999-12-31T23:59:59.999Z"
    assert (await spool.get(message.entry_id)).sender == "a\udcff"


def test_milliseconds_are_kept_in_times() -> None:
    assert iso(1_795_402_800_123) == "2026-11-23T03:00:00.123Z"
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    assert iso(-1) == "1969-12-31T23:59:59.999Z"
    assert iso(-(10**18)) == "0001-01-01T00:00:00.000Z"


# -- lists -------------------------------------------------------------------------------------------------------------


async def test_the_outgoing_queue_is_listed_in_order_of_submission(spool: Both, hand: Hand) -> None:
    entry_ids = await spool.submit_many([PLAIN, Message(PLAIN, hold=True), PLAIN, PLAIN])
    await spool.abort(entry_ids[2])
    assert [m.entry_id for m in await spool.list()] == [entry_ids[0], entry_ids[1], entry_ids[3]]
    assert [m.entry_id for m in await spool.list(limit=2)] == entry_ids[:2]
    assert await spool.list(limit=0) == []
    assert [m.entry_id for m in await spool.list(all=True)] == entry_ids
    assert [m.state for m in await spool.list(all=True)] == ["queued", "held", "aborted", "queued"]


async def test_a_row_of_the_list_has_what_mapi_wants_of_an_outgoing_queue_table(spool: Both) -> None:
    await spool.submit(PLAIN)
    (row,) = await spool.list()
    assert (row.display_to, row.display_cc, row.display_bcc) == (ANN, BOB, None)
    assert list(dataclasses.asdict(row)) == [
        "entry_id", "state", "message_flags", "submit_flags", "sender", "subject", "message_size", "client_submit_time",
        "deferred_send_time", "expires_time", "priority", "display_to", "display_cc", "display_bcc",
    ]  # fmt: skip


async def test_lists_are_filtered_by_state_sender_and_destination(spool: Both, hand: Hand) -> None:
    first = await spool.submit(PLAIN)
    second = await spool.submit(PLAIN, sender="other@example.com", recipients="cy@sub.example.com", hold=True)

    async def ids(**conditions: object) -> list[str]:
        return [m.entry_id for m in await spool.list(**conditions)]

    assert await ids(sender="other@example.com") == [second]
    assert await ids(state="held") == [second]
    assert await ids(destination="EXAMPLE.COM") == [first]
    assert await ids(destination="example_com") == []
    hand.settle(hand.claim(ANN), Event.DEFERRED, LATER)
    assert await ids(destination="mx.example.com") == [first]
    hand.send(ANN, BOB)
    assert await ids(state="sent") == [first]
    assert await ids(state="sent", sender="other@example.com") == []
    assert await ids(state="sent", destination="example.org", all=True) == [first]
    assert await ids(state="draft") == []
    with pytest.raises(UsageError, match="'gone' is not one of draft"):
        await ids(state="gone")
    with pytest.raises(UsageError, match="sender"):
        await ids(sender="\udcff")


async def test_a_list_longer_than_a_page_is_whole(spool: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spoold.client.operations.PAGE", 3)
    entry_ids = await spool.submit_many([PLAIN] * 7)
    for conditions in ({}, {"all": True}, {"limit": 7}, {"limit": 100}):
        assert [m.entry_id for m in await spool.list(**conditions)] == entry_ids
    assert len(await spool.list(limit=4)) == 4
    await spool.abort_matching(all=True)
    assert [m.entry_id for m in await spool.list(state="aborted")] == entry_ids


# -- status ------------------------------------------------------------------------------------------------------------


async def test_the_status_counts_messages_and_recipients_by_state(spool: Both, hand: Hand) -> None:
    assert (await spool.status()).outgoing == 0
    await spool.submit_many([PLAIN, PLAIN, Message(PLAIN, hold=True), Message(PLAIN, recipients="cy@example.com")])
    hand.send("cy@example.com")
    hand.claim(BOB)
    status = await spool.status()
    assert status.outgoing == 3
    assert {state: n for state, n in status.messages.items() if n} == {"queued": 2, "held": 1, "sent": 1}
    assert {state: n for state, n in status.recipients.items() if n} == {"queued": 2, "claimed": 2, "held": 2}
    assert status.oldest_submit_time == (await spool.list(limit=1))[0].client_submit_time
    assert status.oldest_age is not None
    assert 0 <= status.oldest_age < 60


async def test_a_spooler_is_alive_as_long_as_its_lock_is_held(spool: Both, hand: Hand) -> None:
    async def alive() -> list[bool]:
        return [spooler.alive for spooler in (await spool.status()).spoolers]

    assert await alive() == [False]  # no lock file
    lock = hand.live()
    assert await alive() == [True]
    os.close(lock)
    assert await alive() == [False]  # a lock that can be had


async def test_the_status_shows_transports_and_marks(spool: Both, hand: Hand) -> None:
    hand.session.connection.execute(
        "INSERT INTO spoold_transport VALUES ('relay', ?, 'suspended', '535 wrong password', ?)", (hand.token, NOW)
    )
    await spool.submit(PLAIN)
    hand.settle(hand.lock(ANN), Event.DOUBT)
    status = await spool.status()
    assert [(t.name, t.state, t.reason, t.since) for t in status.transports] == [
        ("relay", "suspended", "535 wrong password", iso(NOW))
    ]
    assert status.in_doubt == 1


# -- a long history ----------------------------------------------------------------------------------------------------


def test_no_statement_of_list_and_status_walks_through_finished_messages(queue: Path) -> None:
    connection = open_queue(QueuePath.of(queue))
    parameters = dict.fromkeys(("place", "id", "limit", "state", "sender", "destination", "transport", "due"), 1)
    statements = [reading.SQL.outgoing, reading.SQL.finished, reading.SQL.outgoing_counts, reading.SQL.oldest,
                  reading.SQL.doubtful, reading.SQL.message, selection.SQL.matching]  # fmt: skip
    for statement in statements:
        given = (1,) if "?" in statement else parameters
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", given)]
        for step in plan:
            assert not re.match(r"SCAN (m|r|spoold_\w+)$", step), (statement, plan)
    connection.close()


def test_finished_messages_are_counted_up_to_a_bound(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "COUNTED", 2)
    with Spool(queue) as spool:
        spool.submit_many([PLAIN] * 3)
        spool.abort_matching(all=True)
        status = spool.status()
        assert (status.messages["aborted"], status.counted_to) == (2, 2)
