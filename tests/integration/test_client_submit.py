"""Submitting from a program: what is stored is what was given, once, all or nothing."""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import os
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
from both import KINDS, Both

from spoold import (
    Addressee,
    AsyncSpool,
    CorruptData,
    KeyReused,
    Message,
    NoRecipients,
    Spool,
    Submitted,
    TooBig,
    UsageError,
)
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nSubject: hello\n\nhello\n"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create(QueuePath.of(tmp_path / "queue.db"))
    return tmp_path / "queue.db"


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def spool(request: pytest.FixtureRequest, queue: Path) -> AsyncIterator[Both]:
    async with Both(request.param, queue) as both:
        yield both


def corpus() -> list[pytest.param]:  # type: ignore[valid-type]
    """The messages of CPython's own tests: malformed in every way that mail is."""
    try:
        folder = importlib.resources.files("test.test_email").joinpath("data")
        files = sorted((f for f in folder.iterdir() if f.name.endswith(".txt")), key=lambda f: f.name)
    except (ModuleNotFoundError, FileNotFoundError):
        files = []
    if not files:
        skip = pytest.mark.skip(reason="this Python comes without test.test_email")
        return [pytest.param(b"", id="none", marks=skip)]
    return [pytest.param(file.read_bytes(), id=file.name.removesuffix(".txt")) for file in files]


@pytest.mark.parametrize("content", corpus())
async def test_a_malformed_message_is_taken_and_kept_octet_for_octet(queue: Path, content: bytes) -> None:
    with Spool(queue) as spool:
        entry_id = spool.submit(content, sender="app@example.com", recipients=["ann@example.com"])
        assert spool.content(entry_id) == content
        assert spool.get(entry_id).message_size == len(content)


async def test_a_message_of_30_mb_is_kept_octet_for_octet(spool: Both) -> None:
    content = PLAIN + os.urandom(30_000_000)
    entry_id = await spool.submit(content)
    stored = await spool.content(entry_id)
    assert hashlib.sha256(stored).digest() == hashlib.sha256(content).digest()
    assert (await spool.get(entry_id)).state == "queued"


async def test_envelope_and_subject_come_from_the_header(spool: Both) -> None:
    entry_id = await spool.submit(
        b"From: Ann <ann@example.com>\r\nSender: app@example.com\r\nTo: Bob <bob@example.com>, cy@example.com\r\n"
        b"Cc: di@example.com\r\nBcc: ed@example.com\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n\r\nhello\r\n"
    )
    record = await spool.get(entry_id)
    assert (record.sender, record.subject) == ("app@example.com", "café")
    assert [(r.kind, r.address) for r in record.recipients] == [
        ("to", "bob@example.com"),
        ("to", "cy@example.com"),
        ("cc", "di@example.com"),
        ("bcc", "ed@example.com"),
    ]


async def test_an_email_message_octets_and_a_binary_file_are_the_same_message(spool: Both) -> None:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Subject"] = "app@example.com", "ann@example.com", "hello"
    message.set_content("hello\n")
    content = message.as_bytes()
    for form in (message, content, bytearray(content), memoryview(content), io.BytesIO(content)):
        assert await spool.content(await spool.submit(form)) == content


async def test_the_envelope_may_be_given_and_the_null_reverse_path_too(spool: Both) -> None:
    recipients = ["bob@example.com", Addressee("cy@example.com", "bcc"), "bob@example.com"]
    record = await spool.get(await spool.submit(PLAIN, sender="", recipients=recipients))
    assert record.sender == ""
    assert [(r.kind, r.address) for r in record.recipients] == [("to", "bob@example.com"), ("bcc", "cy@example.com")]
    record = await spool.get(await spool.submit(PLAIN, recipients="bob@example.com"))
    assert [r.address for r in record.recipients] == ["bob@example.com"]


async def test_every_option_is_stored(spool: Both) -> None:
    entry_id = await spool.submit(
        PLAIN,
        send_at="2031-01-01T00:00:00Z",
        expires=datetime(2032, 1, 1, tzinfo=UTC),
        priority="high",
        key="order 7",
        hold=True,
        sent_folder="Sent",
        entry_id="0192F0C1D2E37F40A1B2C3D4E5F60718",
    )
    assert entry_id == "0192f0c1d2e37f40a1b2c3d4e5f60718"
    record = await spool.get(entry_id)
    assert record.deferred_send_time == "2031-01-01T00:00:00.000Z"
    assert record.expires_time == "2032-01-01T00:00:00.000Z"
    assert (record.priority, record.key, record.sent_folder, record.state) == ("high", "order 7", "Sent", "held")
    assert record.recipients[0].next_attempt_time == "2031-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (1_900_000_000, "2030-03-17T17:46:40.000Z"),
        (1_900_000_000.5, "2030-03-17T17:46:40.500Z"),
        (datetime(2030, 3, 17, 17, 46, 40, tzinfo=UTC), "2030-03-17T17:46:40.000Z"),
        (datetime.fromtimestamp(1_900_000_000), "2030-03-17T17:46:40.000Z"),  # noqa: DTZ006 - naive means local
        ("2030-03-17T17:46:40+00:00", "2030-03-17T17:46:40.000Z"),
        ("2030-03-17T19:46:40+02:00", "2030-03-17T17:46:40.000Z"),
    ],
)
async def test_a_time_may_be_given_in_several_ways(spool: Both, when: object, expected: str) -> None:
    record = await spool.get(await spool.submit(PLAIN, send_at=when))
    assert record.deferred_send_time == expected


@pytest.mark.parametrize("when", [timedelta(minutes=90), "+90m", "+1h30m", "+5400"])
async def test_a_time_may_count_from_now(spool: Both, when: object) -> None:
    record = await spool.get(await spool.submit(PLAIN, expires=when))
    submitted, expires = (datetime.fromisoformat(t) for t in (record.client_submit_time, record.expires_time))
    assert expires - submitted == timedelta(minutes=90)


@pytest.mark.parametrize("when", ["tomorrow", "", "+", "+10y", True, float("nan"), float("inf"), 1.7e12, -1, [], b"1"])
async def test_what_is_no_time_is_refused(spool: Both, when: object) -> None:
    with pytest.raises(UsageError, match="send_at"):
        await spool.submit(PLAIN, send_at=when)
    assert await spool.list(all=True) == []


@pytest.mark.parametrize(
    ("content", "options", "error", "text"),
    [
        (b"", {}, CorruptData, "empty"),
        (b"\r\n\r\n", {}, CorruptData, "empty"),
        (PLAIN.decode(), {}, CorruptData, "not str"),
        (io.StringIO(PLAIN.decode()), {}, CorruptData, "not StringIO"),
        (b"To: ann@example.com\n\nhello\n", {}, CorruptData, "no sender"),
        (b"From: app@example.com\n\nhello\n", {}, NoRecipients, "no recipients"),
        (PLAIN, {"recipients": []}, NoRecipients, "no recipients"),
        (PLAIN, {"recipients": ["ann"]}, CorruptData, "'ann' is not an address"),
        (PLAIN, {"recipients": ["ann@example.com\r\nDATA"]}, CorruptData, "is not an address"),
        (PLAIN, {"recipients": ["\udcff@example.com"]}, CorruptData, "not valid Unicode"),
        (PLAIN, {"recipients": [7]}, UsageError, "an address or an Addressee"),
        (PLAIN, {"recipients": [f"u{n}@example.com" for n in range(5001)]}, TooBig, "5001 recipients"),
        (PLAIN, {"sender": "ann@"}, CorruptData, "sender 'ann@'"),
        (PLAIN, {"sender": 7}, UsageError, "sender must be text"),
        (PLAIN, {"priority": "urgent"}, CorruptData, "'urgent'"),
        (PLAIN, {"key": ""}, CorruptData, "key"),
        (PLAIN, {"key": "a\udcff"}, CorruptData, "key"),
        (PLAIN, {"sent_folder": "a\nb"}, CorruptData, "folder"),
        (PLAIN, {"entry_id": "7"}, CorruptData, "32 hexadecimal digits"),
        (b"X: " + b"x" * 2_000_000, {}, TooBig, "header"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_nothing_is_stored(
    spool: Both, content: object, options: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        await spool.submit(content, **options)
    assert await spool.list(all=True) == []


async def test_the_same_key_again_gives_the_first_entry_id_and_stores_nothing(spool: Both) -> None:
    first = await spool.submit(PLAIN, key="order 7")
    assert await spool.submit(PLAIN, key="order 7") == first
    assert await spool.submit_many([Message(PLAIN, key="order 7"), Message(PLAIN, key="order 7")]) == [first, first]
    with pytest.raises(KeyReused, match="order 7"):
        await spool.submit(PLAIN + b"more\n", key="order 7")
    assert [m.entry_id for m in await spool.list(all=True)] == [first]


async def test_a_large_message_under_a_known_key_leaves_nothing_behind(spool: Both, queue: Path) -> None:
    large = PLAIN + b"x" * 3_000_000
    first = await spool.submit(large, key="order 7")
    assert await spool.submit_many([Message(large, key="order 7"), Message(large, key="order 8")]) != [first, first]
    with sqlite3.connect(queue) as connection:
        assert connection.execute("SELECT DISTINCT stage FROM spoold_message").fetchall() == [("ready",)]
    connection.close()


async def test_an_aborted_key_is_free_again(spool: Both) -> None:
    first = await spool.submit(PLAIN, key="order 7")
    await spool.abort(first)
    assert await spool.submit(PLAIN, key="order 7") != first


async def test_an_entry_id_is_used_once(spool: Both) -> None:
    entry_id = await spool.submit(PLAIN, entry_id="f" * 32)
    with pytest.raises(Submitted, match=entry_id):
        await spool.submit(PLAIN, entry_id="F" * 32)


async def test_many_are_submitted_in_order_and_in_one_transaction(spool: Both) -> None:
    many = [PLAIN, Message(PLAIN, recipients=["bob@example.com"], priority="low"), io.BytesIO(PLAIN)]
    entry_ids = await spool.submit_many(iter(many))
    assert [m.entry_id for m in await spool.list()] == entry_ids
    assert (await spool.get(entry_ids[1])).priority == "low"
    assert await spool.submit_many([]) == []


async def test_if_one_of_many_is_refused_none_is_stored(spool: Both) -> None:
    entry_id = await spool.submit(PLAIN)
    with pytest.raises(CorruptData):
        await spool.submit_many([PLAIN, b""])
    with pytest.raises(Submitted):
        await spool.submit_many([PLAIN, PLAIN + b"x" * 2_000_000, Message(PLAIN, entry_id=entry_id)])
    assert [m.entry_id for m in await spool.list(all=True)] == [entry_id]


async def test_a_message_with_its_options_takes_no_others(spool: Both) -> None:
    with pytest.raises(UsageError, match="both places"):
        await spool.submit(Message(PLAIN), hold=True)


async def test_entry_ids_rise_with_time(spool: Both) -> None:
    first = await spool.submit(PLAIN)
    assert len(first) == 32
    assert first[12] == "7"
    assert int(first[:12], 16) <= int((await spool.submit(PLAIN))[:12], 16)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    import inspect

    # what the commands use beside is the synchronous one's alone
    internal = {"before_fork", "after_fork", "perform", "pages", "abort_batches", "changes"}
    public = {name for name in dir(AsyncSpool) if not name.startswith("_")}
    assert {name for name in dir(Spool) if not name.startswith("_")} - internal == public
    for name in sorted(public - {"close", "where"}):
        sync, other = (inspect.signature(getattr(kind, name)) for kind in (Spool, AsyncSpool))
        assert list(sync.parameters) == list(other.parameters), name
        assert [p.kind for p in sync.parameters.values()] == [p.kind for p in other.parameters.values()], name
        assert [p.default for p in sync.parameters.values()] == [p.default for p in other.parameters.values()], name
        assert inspect.iscoroutinefunction(getattr(AsyncSpool, name))


def test_the_same_key_for_other_recipients_is_refused(queue: Path) -> None:
    with Spool(queue) as spool:
        spool.submit(PLAIN, key="k", recipients=["ann@example.com", "bob@example.com"])
        spool.submit(PLAIN, key="k", recipients=["bob@example.com", "ann@example.com"])
        with pytest.raises(KeyReused, match="recipients"):
            spool.submit(PLAIN, key="k", recipients=["ann@example.com"])
        assert len(spool.list()) == 1


def test_what_could_never_be_sent_in_time_is_refused(queue: Path) -> None:
    with Spool(queue) as spool:
        for options in ({"expires": 1}, {"expires": "+1m", "send_at": "+2m"}):
            with pytest.raises(UsageError, match="expires"):
                spool.submit(PLAIN, **options)
