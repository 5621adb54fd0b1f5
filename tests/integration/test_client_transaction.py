"""`connection=`: submit and abort are part of the application's own transaction, whatever its connection is set to."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from spoold import (
    AbortResult,
    AsyncSpool,
    CorruptData,
    KeyReused,
    Message,
    NotInQueue,
    QueueBusy,
    QueueMissing,
    Spool,
    Submitted,
    UsageError,
)
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nSubject: hello\n\nhello\n"
LARGE = PLAIN + b"x" * 2_000_000
ANN = "ann@example.com"


def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip((column[0] for column in cursor.description), row, strict=True))


CONNECTIONS: list[dict[str, Any]] = [
    {},
    {"isolation_level": None},
    {"isolation_level": "IMMEDIATE"},
    {"isolation_level": "EXCLUSIVE"},
    *([{"autocommit": False}, {"autocommit": True}] if sys.version_info >= (3, 12) else []),
]
FACTORIES: list[tuple[Any, Any]] = [(None, str), (sqlite3.Row, str), (as_dict, bytes), (None, bytearray)]


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """A queue inside of an application's own database."""
    path = tmp_path / "app.db"
    create(QueuePath.of(path))
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
    connection.close()
    return path


@pytest.fixture
def spool(queue: Path) -> Iterator[Spool]:
    with Spool(queue, busy_timeout=0.05) as spool:
        yield spool


@pytest.fixture(params=CONNECTIONS, ids=str)
def app(request: pytest.FixtureRequest, queue: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(queue, timeout=0.05, **request.param)
    yield connection
    connection.close()


def commit(app: sqlite3.Connection) -> None:
    """As an application of this kind does it; with autocommit=True commit() does nothing."""
    if getattr(app, "autocommit", None) is True:
        app.execute("COMMIT")
    else:
        app.commit()


def roll_back(app: sqlite3.Connection) -> None:
    if getattr(app, "autocommit", None) is True:
        app.execute("ROLLBACK")
    else:
        app.rollback()


def begin(app: sqlite3.Connection) -> None:
    """Something of the application's own comes first."""
    if not app.in_transaction:
        app.execute("BEGIN")
    app.execute("INSERT INTO orders (name) VALUES ('seven')")


def start(app: sqlite3.Connection, begun: bool = False) -> None:
    """`begun`: something of the application's own comes first; else what an autocommit connection needs."""
    if begun:
        begin(app)
    elif (app.isolation_level is None or getattr(app, "autocommit", None) is True) and not app.in_transaction:
        app.execute("BEGIN")


def orders(app: sqlite3.Connection) -> int:
    app.row_factory = None
    return int(app.execute("SELECT count(*) FROM orders").fetchone()[0])


@pytest.mark.parametrize(("row_factory", "text_factory"), FACTORIES)
@pytest.mark.parametrize("begun", [True, False])
def test_a_message_is_submitted_when_the_application_commits(
    spool: Spool, app: sqlite3.Connection, row_factory: Any, text_factory: Any, begun: bool
) -> None:
    app.row_factory, app.text_factory = row_factory, text_factory
    start(app, begun)
    entry_id = spool.submit(PLAIN, key="order 7", connection=app)
    assert spool.submit(PLAIN, key="order 7", connection=app) == entry_id
    assert spool.list(all=True) == []
    assert app.in_transaction
    assert (app.row_factory, app.text_factory) == (row_factory, text_factory)
    commit(app)
    assert [m.entry_id for m in spool.list()] == [entry_id]
    assert orders(app) == begun


@pytest.mark.parametrize("begun", [True, False])
def test_a_message_is_not_submitted_when_the_application_rolls_back(
    spool: Spool, app: sqlite3.Connection, begun: bool
) -> None:
    start(app, begun)
    spool.submit(PLAIN, connection=app)
    spool.submit_many([LARGE, Message(PLAIN, key="order 7")], connection=app)
    roll_back(app)
    assert spool.list(all=True) == []
    assert orders(app) == 0
    spool.submit(LARGE, key="order 7")  # the key is free


def test_a_large_message_is_part_of_the_transaction_too(spool: Spool, app: sqlite3.Connection) -> None:
    start(app)
    entry_id = spool.submit(LARGE, connection=app)
    assert spool.list(all=True) == []
    commit(app)
    assert spool.content(entry_id) == LARGE


@pytest.mark.parametrize("begun", [True, False])
def test_what_is_refused_leaves_the_transaction_as_it_was(spool: Spool, app: sqlite3.Connection, begun: bool) -> None:
    stored = spool.submit(PLAIN, key="order 7")
    start(app, begun)
    implicit = app.in_transaction  # autocommit=False: there is always one
    with pytest.raises(CorruptData):
        spool.submit(b"", connection=app)
    with pytest.raises(Submitted):
        spool.submit_many([PLAIN, Message(PLAIN, entry_id=stored)], connection=app)
    with pytest.raises(KeyReused):
        spool.submit(LARGE, key="order 7", connection=app)
    assert app.in_transaction == (begun or implicit)
    commit(app) if app.in_transaction else None
    assert [m.entry_id for m in spool.list(all=True)] == [stored]
    assert orders(app) == begun


@pytest.mark.parametrize("begun", [True, False])
def test_an_abort_binds_when_the_application_commits(spool: Spool, app: sqlite3.Connection, begun: bool) -> None:
    entry_id = spool.submit(PLAIN)
    for end, state in ((roll_back, "queued"), (commit, "aborted")):
        start(app, begun)
        assert spool.abort(entry_id, connection=app) == AbortResult(aborted=(ANN,))
        assert spool.get(entry_id).state == "queued"
        end(app)
        assert spool.get(entry_id).state == state
    start(app, begun)
    with pytest.raises(NotInQueue):
        spool.abort(entry_id, connection=app)


def test_submit_and_abort_in_one_transaction_leave_nothing_to_send(spool: Spool, app: sqlite3.Connection) -> None:
    start(app)
    entry_id = spool.submit(PLAIN, connection=app)
    assert spool.abort(entry_id, connection=app).aborted == (ANN,)
    commit(app)
    assert spool.get(entry_id).state == "aborted"


def test_the_applications_own_savepoints_go_on_working(spool: Spool, queue: Path) -> None:
    app = sqlite3.connect(queue, isolation_level=None)
    app.execute("SAVEPOINT spoold")
    kept = spool.submit(PLAIN, connection=app)
    app.execute("SAVEPOINT inner")
    spool.submit(PLAIN, connection=app)
    app.execute("ROLLBACK TO inner")
    app.execute("RELEASE spoold")
    app.close()
    assert [m.entry_id for m in spool.list(all=True)] == [kept]


def test_a_connection_to_another_file_is_refused(spool: Spool, tmp_path: Path) -> None:
    for name in (tmp_path / "other.db", ":memory:"):
        other = sqlite3.connect(name)
        with pytest.raises(QueueMissing, match="main database"):
            spool.submit(PLAIN, connection=other)
        other.execute("ATTACH ? AS queue", (str(tmp_path / "app.db"),))  # not one transaction, if the machine goes down
        with pytest.raises(QueueMissing, match="main database"):
            spool.submit(PLAIN, connection=other)
        assert not other.in_transaction
        other.close()


def test_the_same_file_by_another_name_is_the_same_queue(spool: Spool, queue: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(queue)
    app = sqlite3.connect(f"file:{tmp_path / 'link.db'}?mode=rw", uri=True)
    spool.submit(PLAIN, connection=app)
    app.commit()
    app.close()
    assert len(spool.list()) == 1


def test_what_is_no_open_connection_is_refused(spool: Spool, queue: Path) -> None:
    app = sqlite3.connect(queue)
    app.close()
    with pytest.raises(UsageError, match="closed"):
        spool.submit(PLAIN, connection=app)
    with pytest.raises(UsageError, match=r"sqlite3\.Connection, not str"):
        spool.submit(PLAIN, connection="queue.db")  # type: ignore[arg-type]


def test_if_another_process_writes_the_application_is_told_and_no_transaction_stays_open(
    spool: Spool, queue: Path, app: sqlite3.Connection
) -> None:
    other = sqlite3.connect(queue, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    start(app)
    implicit = app.in_transaction
    with pytest.raises(QueueBusy):
        spool.submit(PLAIN, connection=app)
    assert app.in_transaction == implicit
    other.execute("COMMIT")
    other.close()
    roll_back(app) if app.in_transaction else None
    start(app)
    spool.submit(PLAIN, connection=app)
    commit(app)
    assert len(spool.list()) == 1


def test_an_autocommit_connection_without_a_transaction_is_refused_since_nobody_would_commit(
    spool: Spool, queue: Path
) -> None:
    app = sqlite3.connect(queue, isolation_level=None)
    with pytest.raises(UsageError, match="BEGIN first"):
        spool.submit(PLAIN, connection=app)
    assert not app.in_transaction
    app.close()


# -- aiosqlite ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def async_spool(queue: Path) -> AsyncIterator[AsyncSpool]:
    async with AsyncSpool(queue) as spool:
        yield spool


@pytest.mark.parametrize(("row_factory", "text_factory"), FACTORIES)
@pytest.mark.parametrize("isolation_level", ["", None, "IMMEDIATE"])
async def test_an_aiosqlite_connection_is_joined_in_the_same_way(
    async_spool: AsyncSpool, queue: Path, row_factory: Any, text_factory: Any, isolation_level: str | None
) -> None:
    async with aiosqlite.connect(queue, isolation_level=isolation_level) as app:
        app.row_factory, app.text_factory = row_factory, text_factory

        async def start() -> None:
            if isolation_level is None:
                await app.execute("BEGIN")

        await start()
        await async_spool.submit(PLAIN, connection=app)
        await app.rollback()
        assert await async_spool.list(all=True) == []
        await start()
        entry_id = await async_spool.submit(LARGE, connection=app)
        assert await async_spool.list(all=True) == []
        await app.commit()
        assert [m.entry_id for m in await async_spool.list()] == [entry_id]
        await start()
        assert (await async_spool.abort(entry_id, connection=app)).aborted == (ANN,)
        assert (await async_spool.get(entry_id)).state == "queued"
        assert (app.row_factory, app.text_factory) == (row_factory, text_factory)
        await app.commit()
        assert (await async_spool.get(entry_id)).state == "aborted"


async def test_what_is_no_open_aiosqlite_connection_is_refused(async_spool: AsyncSpool, queue: Path) -> None:
    async with aiosqlite.connect(queue) as app:
        pass
    with pytest.raises(UsageError, match="no active connection"):
        await async_spool.submit(PLAIN, connection=app)
    connection = sqlite3.connect(queue)
    with pytest.raises(UsageError, match=r"aiosqlite\.Connection"):
        await async_spool.submit(PLAIN, connection=connection)  # type: ignore[arg-type]
    connection.close()
    async with aiosqlite.connect(":memory:") as app:
        with pytest.raises(QueueMissing):
            await async_spool.submit(PLAIN, connection=app)
