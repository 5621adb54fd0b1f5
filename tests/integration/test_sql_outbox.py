"""SQL alone: INSERT submits, DELETE aborts, SELECT lists, in any program that speaks SQLite."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hand import Hand

from spoold import Spool
from spoold.lifecycle import Event
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nSubject: hello\n\nhello\n"
ANN, BOB = "ann@example.com", "bob@example.org"
CONFLICTS = ["", "OR ABORT", "OR FAIL", "OR IGNORE", "OR REPLACE", "OR ROLLBACK"]
ID = "0192f0c1d2e37f40a1b2c3d4e5f60718"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create(QueuePath.of(tmp_path / "queue.db"))
    return tmp_path / "queue.db"


@pytest.fixture(
    params=[
        (),
        ("trusted_schema = OFF", "recursive_triggers = ON", "foreign_keys = ON", "case_sensitive_like = ON"),
    ],
    ids=["plain", "odd settings"],
)
def sql(request: pytest.FixtureRequest, queue: Path) -> Iterator[sqlite3.Connection]:
    """A program that knows nothing of spoold."""
    connection = sqlite3.connect(queue, isolation_level=None)
    for pragma in request.param:
        connection.execute(f"PRAGMA {pragma}")
    yield connection
    connection.close()


@pytest.fixture
def spool(queue: Path) -> Iterator[Spool]:
    with Spool(queue) as spool:
        yield spool


@pytest.fixture
def hand(queue: Path) -> Iterator[Hand]:
    hand = Hand(queue)
    yield hand
    hand.close()


def insert(sql: sqlite3.Connection, conflict: str = "", **values: Any) -> None:
    row = {"sender": "app@example.com", "recipients": json.dumps([ANN]), "content": PLAIN, **values}
    sql.execute(
        f"INSERT {conflict} INTO spoold_outbox ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
        tuple(row.values()),
    )


def stored(sql: sqlite3.Connection) -> list[int]:
    tables = ("message", "recipient", "content", "event", "key")
    return [sql.execute(f"SELECT count(*) FROM spoold_{table}").fetchone()[0] for table in tables]


def check(sql: sqlite3.Connection) -> None:
    """As intake does it: from now on it can be claimed."""
    sql.execute(
        "UPDATE spoold_message SET stage = 'ready', message_flags = message_flags | 4 WHERE stage = 'submitted'"
    )
    sql.execute("UPDATE spoold_recipient SET due = changed WHERE due IS NULL")


# -- INSERT ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_insert_submits_and_select_lists(sql: sqlite3.Connection, spool: Spool, conflict: str) -> None:
    insert(sql, conflict)
    ((entry_id, state, sender, display_to, size),) = sql.execute(
        "SELECT entry_id, state, sender, display_to, message_size FROM spoold_outbox"
    )
    assert (state, sender, display_to, size) == ("queued", "app@example.com", ANN, len(PLAIN))
    record = spool.get(entry_id)
    assert record.state == "queued"
    assert [e.kind for e in record.events] == ["submitted"]
    assert spool.content(entry_id) == PLAIN
    assert (len(entry_id), entry_id[12]) == (32, "7")


def test_insert_takes_every_option(sql: sqlite3.Connection, spool: Spool) -> None:
    recipients = [ANN, {"address": BOB, "type": "bcc"}, {"address": "printer-7", "type": "cc", "address_type": "FAX"}]
    insert(
        sql, recipients=json.dumps(recipients), entry_id=ID.upper(), send_at="2031-01-01T00:00:00Z", priority="low",
        expires_at=1_956_528_000, key="order 7", hold=1, sent_folder="Sent", delete_after_submit=1,
    )  # fmt: skip
    record = spool.get(ID)
    assert (record.state, record.priority, record.key, record.sent_folder) == ("held", "low", "order 7", "Sent")
    assert record.deferred_send_time == "2031-01-01T00:00:00.000Z"
    assert record.expires_time == "2032-01-01T00:00:00.000Z"
    assert [(r.kind, r.address, r.address_type) for r in record.recipients] == [
        ("to", ANN, "SMTP"),
        ("bcc", BOB, "SMTP"),
        ("cc", "printer-7", "FAX"),
    ]
    columns = (
        "display_to, display_cc, display_bcc, client_submit_time, message_flags, submit_flags, send_at, expires_at"
    )
    (row,) = sql.execute(f"SELECT {columns} FROM spoold_outbox")
    assert row == (
        ANN, "printer-7", BOB, record.client_submit_time, 8 | 32 | 2 | 1, 2,
        "2031-01-01T00:00:00.000Z", "2032-01-01T00:00:00.000Z",
    )  # fmt: skip


@pytest.mark.parametrize("content", [PLAIN.decode(), PLAIN + b"\x00\xff", PLAIN + b"x" * 3_000_000])
def test_content_of_any_kind_and_size_is_kept_octet_for_octet(
    sql: sqlite3.Connection, spool: Spool, content: bytes | str
) -> None:
    insert(sql, content=content, entry_id=ID)
    assert spool.content(ID) == (content.encode() if isinstance(content, str) else content)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("MAPI_E_CORRUPT_DATA", {"sender": None}),
    ("MAPI_E_CORRUPT_DATA", {"sender": 7}),
    ("MAPI_E_CORRUPT_DATA", {"content": None}),
    ("MAPI_E_CORRUPT_DATA", {"content": b""}),
    ("MAPI_E_CORRUPT_DATA", {"content": 7}),
    ("MAPI_E_NO_RECIPIENTS", {"recipients": None}),
    ("MAPI_E_NO_RECIPIENTS", {"recipients": "[]"}),
    ("MAPI_E_NO_RECIPIENTS", {"recipients": " [ ]\n"}),
    ("MAPI_E_CORRUPT_DATA", {"recipients": ANN}),
    ("MAPI_E_CORRUPT_DATA", {"recipients": 7}),
    ("MAPI_E_CORRUPT_DATA", {"recipients": "[7]"}),
    ("MAPI_E_CORRUPT_DATA", {"recipients": '[["ann@example.com"]]'}),
    ("MAPI_E_CORRUPT_DATA", {"recipients": '[{"type": "to"}]'}),
    ("MAPI_E_CORRUPT_DATA", {"recipients": '[{"address": "a@b", "type": "tu"}]'}),
    ("MAPI_E_CORRUPT_DATA", {"recipients": '[{"address": "a@b", "adress_type": "SMTP"}]'}),
    ("MAPI_E_CORRUPT_DATA", {"entry_id": "7"}),
    ("MAPI_E_CORRUPT_DATA", {"entry_id": "g" * 32}),
    ("MAPI_E_CORRUPT_DATA", {"send_at": "tomorrow"}),
    ("MAPI_E_CORRUPT_DATA", {"expires_at": b"2031-01-01"}),
    ("MAPI_E_CORRUPT_DATA", {"priority": "urgent"}),
    ("MAPI_E_CORRUPT_DATA", {"hold": 2}),
    ("MAPI_E_CORRUPT_DATA", {"key": ""}),
    ("MAPI_E_CORRUPT_DATA", {"key": 7}),
    ("MAPI_E_CORRUPT_DATA", {"delete_after_submit": "yes"}),
    ("MAPI_E_CORRUPT_DATA", {"sent_folder": 7}),
    ("MAPI_E_SUBMITTED", {"entry_id": ID}),
    ("MAPI_E_SUBMITTED", {"entry_id": ID.upper()}),
    ("MAPI_E_COLLISION", {"key": "order 7", "content": PLAIN + b"x"}),
    ("MAPI_E_COLLISION", {"key": "order 7", "sender": "other@example.com"}),
    ("MAPI_E_COLLISION", {"key": "order 7", "recipients": '["other@example.com"]'}),
]


@pytest.mark.parametrize("conflict", CONFLICTS)
@pytest.mark.parametrize(("code", "values"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused_names_mapis_code_and_leaves_nothing(
    sql: sqlite3.Connection, conflict: str, code: str, values: dict[str, Any]
) -> None:
    insert(sql, entry_id=ID, key="order 7")
    before = stored(sql)
    with pytest.raises(sqlite3.Error, match=rf"^{code}: \w+"):
        insert(sql, conflict, **values)
    assert stored(sql) == before


@pytest.mark.parametrize("conflict", CONFLICTS)
@pytest.mark.parametrize("recipients", ['["ann@example.com"', "[ann]", '["a"]]', "[,]", '["ann@example.com",]'])
def test_malformed_json_is_refused_and_leaves_nothing(sql: sqlite3.Connection, conflict: str, recipients: str) -> None:
    with pytest.raises(sqlite3.Error, match=r"MAPI_E_CORRUPT_DATA|malformed JSON"):
        insert(sql, conflict, recipients=recipients)
    assert stored(sql) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_the_same_key_again_stores_nothing_and_is_no_error(sql: sqlite3.Connection, conflict: str) -> None:
    insert(sql, key="order 7")
    before = stored(sql)
    insert(sql, conflict, key="order 7")
    assert stored(sql) == before


def test_key_and_content_are_the_same_for_sql_and_library(sql: sqlite3.Connection, spool: Spool) -> None:
    insert(sql, key="order 7", entry_id=ID)
    assert spool.submit(PLAIN, key="order 7") == ID
    first = spool.submit(PLAIN, key="order 8")
    insert(sql, key="order 8")
    assert [m.entry_id for m in spool.list()] == [ID, first]


def test_an_insert_binds_with_the_programs_own_transaction(sql: sqlite3.Connection, spool: Spool) -> None:
    for end, number in (("ROLLBACK", 0), ("COMMIT", 2)):
        sql.execute("BEGIN")
        insert(sql)
        insert(sql)
        assert spool.list() == []
        sql.execute(end)
        assert len(spool.list()) == number


def test_many_are_inserted_by_one_statement_in_order(sql: sqlite3.Connection, spool: Spool) -> None:
    sql.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)"
        " INSERT INTO spoold_outbox (sender, recipients, content)"
        " SELECT 'app@example.com', json_array('u' || i || '@example.com'), 'From: a' || char(10, 10) || i FROM n"
    )
    assert [m.display_to for m in spool.list()] == [f"u{i}@example.com" for i in range(1, 21)]
    assert [spool.content(m.entry_id)[9:] for m in spool.list()] == [str(i).encode() for i in range(1, 21)]


@pytest.mark.parametrize("statement", ["UPDATE spoold_outbox SET sender = 'x'", "DELETE FROM spoold_status"])
def test_what_the_views_do_not_offer_is_refused(sql: sqlite3.Connection, statement: str) -> None:
    insert(sql)
    with pytest.raises(sqlite3.OperationalError, match="view"):
        sql.execute(statement)


# -- DELETE ------------------------------------------------------------------------------------------------------------


def test_delete_aborts_before_and_after_the_check(sql: sqlite3.Connection, spool: Spool, hand: Hand) -> None:
    insert(sql, entry_id=ID, key="order 7")
    sql.execute("DELETE FROM spoold_outbox WHERE entry_id = ?", (ID,))
    record = spool.get(ID)
    assert (record.state, record.message_flags & 0xC) == ("aborted", 0x8)
    assert [e.kind for e in record.events] == ["submitted", "aborted"]
    insert(sql, key="order 7")  # the key is free
    check(sql)
    hand.claim()
    sql.execute("DELETE FROM spoold_outbox")
    assert spool.list() == []
    assert [m.state for m in spool.list(all=True)] == ["aborted", "aborted"]
    assert sql.execute("SELECT state FROM spoold_status").fetchall() == [("aborted",)] * 2


def test_delete_lists_what_it_aborted(sql: sqlite3.Connection) -> None:
    insert(sql, entry_id=ID)
    insert(sql, sender="other@example.com")
    deleted = sql.execute("DELETE FROM spoold_outbox WHERE sender = 'app@example.com' RETURNING entry_id").fetchall()
    assert deleted == [(ID,)]
    assert sql.execute("SELECT sender FROM spoold_outbox").fetchall() == [("other@example.com",)]


@pytest.mark.parametrize("situation", ["locked", "sent", "in doubt"])
def test_delete_is_all_or_nothing(sql: sqlite3.Connection, spool: Spool, hand: Hand, situation: str) -> None:
    insert(sql)
    insert(sql, recipients=json.dumps([ANN, BOB]))
    check(sql)
    if situation == "sent":
        hand.send(BOB)
    else:
        locked = hand.lock(BOB)
        if situation == "in doubt":
            hand.settle(locked, Event.DOUBT)
    states = [[r.state for r in spool.get(m.entry_id).recipients] for m in spool.list()]
    with pytest.raises(sqlite3.Error, match=r"^MAPI_E_UNABLE_TO_ABORT: "):
        sql.execute("DELETE FROM spoold_outbox")
    assert [[r.state for r in spool.get(m.entry_id).recipients] for m in spool.list()] == states


def test_a_delete_that_is_rolled_back_aborts_nothing(sql: sqlite3.Connection, spool: Spool) -> None:
    insert(sql, entry_id=ID)
    sql.execute("BEGIN")
    sql.execute("DELETE FROM spoold_outbox")
    sql.execute("ROLLBACK")
    assert spool.get(ID).state == "queued"


# -- other programs ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the command sqlite3 is not installed")
def test_the_command_sqlite3_submits_lists_and_aborts(queue: Path, spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "m.eml").write_bytes(PLAIN)

    def shell(statement: str) -> str:
        program = f"PRAGMA trusted_schema = OFF; PRAGMA busy_timeout = 5000; {statement}"
        done = subprocess.run(
            ["sqlite3", "-bail", str(queue), program], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        return done.stdout.removeprefix("5000\n")

    shell(
        "INSERT INTO spoold_outbox (sender, recipients, content)"
        " VALUES ('app@example.com', '[\"ann@example.com\"]', readfile('m.eml'))"
    )
    (message,) = spool.list()
    assert spool.content(message.entry_id) == PLAIN
    assert shell("SELECT entry_id, state, display_to FROM spoold_outbox") == f"{message.entry_id}|queued|{ANN}\n"
    assert shell("DELETE FROM spoold_outbox RETURNING entry_id") == f"{message.entry_id}\n"
    assert spool.get(message.entry_id).state == "aborted"
