"""Where a queue is not, or cannot be worked with, the error says what and why, and nothing is created."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from both import KINDS, Both
from users import as_owner, not_root

from spoold import (
    AsyncSpool,
    NoAccess,
    QueueDamaged,
    QueueMissing,
    QueueUnusable,
    Spool,
    UnknownSchema,
    UsageError,
)
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nSubject: hello\n\nhello\n"
Kind = type[Spool | AsyncSpool]


async def use(kind: Kind, url: object) -> None:
    """Opening and submitting: an AsyncSpool opens at its first operation."""
    async with Both(kind, url) as both:  # type: ignore[arg-type]
        await both.submit(PLAIN)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["queue.db", "no/such/folder/queue.db", "spaces and % ? # ü.db"], ids=["file", "folder", "odd"]
)
async def test_a_missing_queue_is_not_created(tmp_path: Path, kind: Kind, name: str) -> None:
    with pytest.raises(QueueMissing, match="no queue at"):
        await use(kind, tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["sqlite:////{}", "sqlite:///{}", "{}"])
async def test_a_queue_is_named_by_url_or_path_with_any_letters_in_it(
    tmp_path: Path, kind: Kind, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "spaces and ü.db"
    create(QueuePath.of(path))
    name = path.name if form == "sqlite:///{}" else str(path).lstrip("/") if form.startswith("sqlite") else str(path)
    await use(kind, form.format(name))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_database_without_a_queue_is_left_as_it_is(tmp_path: Path, kind: Kind) -> None:
    for path in (tmp_path / "empty.db", tmp_path / "app.db"):
        connection = sqlite3.connect(path)
        if path.name == "app.db":
            connection.execute("CREATE TABLE orders (id)")
        connection.close()
        path.touch()
        before = path.read_bytes()
        with pytest.raises(QueueMissing, match="has no queue in it"):
            await use(kind, path)
        assert path.read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_database_is_said_to_be_damaged(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "queue.db").write_bytes(b"hello " * 1000)
    with pytest.raises(QueueDamaged, match="no SQLite database"):
        await use(kind, tmp_path / "queue.db")
    with pytest.raises(QueueUnusable, match="not a file"):
        await use(kind, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_altered_schema_and_an_unknown_one_are_refused(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "queue.db"
    create(QueuePath.of(path))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TRIGGER mine AFTER INSERT ON spoold_message BEGIN SELECT 1; END")
    with pytest.raises(QueueDamaged, match="remove what was added"):
        await use(kind, path)
    connection.execute("DROP TRIGGER mine")
    await use(kind, path)
    connection.execute("INSERT INTO spoold_schema VALUES (99, 'later', 99, 0)")
    with pytest.raises(UnknownSchema, match="upgrade spoold"):
        await use(kind, path)
    connection.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "sqlite://host/queue.db", "mysql://host/queue", "a\0b"])
async def test_what_names_no_queue_is_refused(kind: Kind, url: str) -> None:
    with pytest.raises(UsageError, match="queue"):
        await use(kind, url)


@pytest.mark.parametrize("kind", KINDS)
async def test_without_permission_nothing_is_stored(kind: Kind) -> None:
    with not_root() as folder:
        path = folder / "queue.db"
        with as_owner():
            create(QueuePath.of(path))
            path.chmod(0)
        with pytest.raises(NoAccess, match="join the queue's group"):
            await use(kind, path)
        with as_owner():
            path.chmod(0o444)
        with pytest.raises((NoAccess, QueueUnusable)):
            await use(kind, path)
