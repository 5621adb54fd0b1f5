"""The queue's place: its address, its files, opening it safely, creating and upgrading it.

Only `create` makes a queue. Whoever opens one checks that its `spoold_` objects are what the migrations made.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.resources
import os
import re
import sqlite3
import stat
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from spoold import errors
from spoold.store.session import cannot_open, not_writable, queue_error

SCHEMA_VERSION = 1  # the newest migration
OLDEST_CLIENT = 1  # clients that know at least this schema are served by it
BUSY_TIMEOUT = 5.0  # seconds that a statement waits for another process's transaction
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "fuse.sshfs",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "lustre",
        "beegfs",
    }
)


@dataclass(frozen=True, slots=True)
class QueuePath:
    """Where a queue is: an absolute path of an SQLite file, and of what lies beside it."""

    path: str

    @classmethod
    def of(cls, url: str | os.PathLike[str]) -> QueuePath:
        """From `sqlite:///relative.db`, `sqlite:////absolute.db` or a bare path."""
        text = os.fspath(url)
        if "://" in text:
            parts = urlsplit(text)
            if parts.scheme != "sqlite" or parts.netloc:
                raise errors.UsageError(
                    f"queue {parts.scheme}://...: not an address of a queue; use sqlite:///relative.db, sqlite:////absolute.db or a path"
                )
            text = parts.path[1:]
        if not text or "\0" in text:
            raise errors.UsageError(f"queue {text!r} is not a path: give one like /var/spool/spoold/queue.db")
        return cls(os.path.abspath(text))

    def beside(self, mark: str, what: str) -> str:
        """The path of a spooler's lock file (`lock`) or doorbell (`bell`)."""
        return f"{self.path}-{mark}.{what}"


def pragmas(*, durability: str = "full", read_only: bool = False) -> tuple[str, ...]:
    """What every connection of ours says first."""
    return (
        f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}",
        "PRAGMA trusted_schema = OFF",
        "PRAGMA cell_size_check = ON",
        "PRAGMA foreign_keys = OFF",
        f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}",
        "PRAGMA temp_store = MEMORY",
        f"PRAGMA journal_size_limit = {64 * 1024 * 1024}",  # of the -wal file between bursts
        *(("PRAGMA query_only = ON",) if read_only else ()),
    )


def connect_arguments(where: QueuePath, mode: str = "rw") -> dict[str, Any]:
    """Arguments for sqlite3.connect and aiosqlite.connect: autocommit, never creating a file unless mode is rwc."""
    return {
        "database": f"file:{quote(os.fsencode(where.path))}?mode={mode}",
        "uri": True,
        "isolation_level": None,
        "timeout": BUSY_TIMEOUT,
        "cached_statements": 256,
    }


def open_queue(where: QueuePath, *, durability: str = "full", any_thread: bool = False) -> sqlite3.Connection:
    """A connection to an existing queue, whose schema was checked. Raises QueueError's kinds."""
    if not os.path.exists(where.path):
        raise cannot_open(where.path)
    try:
        connection: sqlite3.Connection = sqlite3.connect(**connect_arguments(where), check_same_thread=not any_thread)
    except sqlite3.Error as error:
        raise queue_error(error, where.path) from error
    try:
        for statement in pragmas(durability=durability):
            connection.execute(statement)
        check_schema(connection, where)
    except sqlite3.Error as error:
        connection.close()
        raise queue_error(error, where.path) from error
    except BaseException:
        connection.close()
        raise
    return connection


# -- schema ------------------------------------------------------------------------------------------------------------

_VERSIONS = """CREATE TABLE spoold_schema (
    version INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    oldest_client INTEGER NOT NULL,
    applied INTEGER NOT NULL
) STRICT"""
_OBJECTS = r"""SELECT type, name, tbl_name, sql FROM sqlite_schema
WHERE name LIKE 'spoold\_%' ESCAPE '\' OR tbl_name LIKE 'spoold\_%' ESCAPE '\' ORDER BY type, name"""


@functools.cache
def migrations() -> tuple[tuple[int, str, str], ...]:
    """(number, name, SQL) of the chain for SQLite."""
    folder = importlib.resources.files("spoold_migrations").joinpath("sqlite")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return tuple((int(f.name[:4]), f.name[:-4], f.read_text("utf-8")) for f in files)


def readable(raw: bytes) -> str:
    """The text factory of a spooler's connections: text that is no UTF-8 must not stop anybody."""
    return raw.decode("utf-8", "surrogateescape")


def _fingerprint(connection: sqlite3.Connection) -> bytes:
    cursor = connection.cursor()
    cursor.row_factory = None
    return hashlib.sha256(repr(cursor.execute(_OBJECTS).fetchall()).encode()).digest()


@functools.cache
def _expected() -> bytes:
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        connection.execute(_VERSIONS)
        for _, _, script in migrations():
            connection.executescript(script)
        fingerprint = _fingerprint(connection)
    connection.close()
    return fingerprint


def check_schema(connection: sqlite3.Connection, where: QueuePath) -> None:
    """Raises QueueMissing for a database without a queue, UnknownSchema, and QueueDamaged for an altered schema."""
    cursor = connection.cursor()
    cursor.row_factory = None
    try:
        version, oldest = cursor.execute("SELECT max(version), max(oldest_client) FROM spoold_schema").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        raise errors.QueueMissing(f"{where.path} has no queue in it: create it with `spoold migrate`") from error
    if version is None or oldest is None:
        raise errors.QueueMissing(f"{where.path} has an unfinished queue in it: finish it with `spoold migrate`")
    if version < SCHEMA_VERSION:
        raise errors.UnknownSchema(
            f"queue {where.path} has schema {version}, this spoold needs {SCHEMA_VERSION}: upgrade it with `spoold migrate`"
        )
    if version > SCHEMA_VERSION:
        if oldest > SCHEMA_VERSION:
            raise errors.UnknownSchema(
                f"queue {where.path} has schema {version}, this spoold knows up to {SCHEMA_VERSION}: upgrade spoold"
            )
        return
    if _fingerprint(connection) != _expected():
        raise errors.QueueDamaged(
            f"queue {where.path}: its spoold_ tables, views or triggers are not those of schema {version}: "
            "remove what was added to them, or restore a backup"
        )


def create(where: QueuePath) -> tuple[int, int]:
    """Create the queue or bring it up to date; each migration and its record is one transaction.

    Returns the versions before (0 for none) and after. Raises CannotCreate, UnknownSchema and QueueError's kinds.
    """
    directory = os.path.dirname(where.path)
    existed = os.path.exists(where.path)
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise errors.CannotCreate(f"cannot create the directory {directory}: {error.strerror}") from error
    refuse_network_file_system(directory)
    if os.path.isdir(where.path):
        raise errors.CannotCreate(f"cannot create {where.path}: it is a directory; name a file in it")
    if existed and not os.access(where.path, os.R_OK | os.W_OK):
        raise not_writable(where.path)
    if not existed and not os.access(directory, os.W_OK | os.X_OK):
        raise errors.CannotCreate(f"cannot create {where.path}: no permission to write in {directory}")
    try:
        if not existed:
            _make_file(where.path, directory)
        connection = sqlite3.connect(**connect_arguments(where, "rwc"))
    except OSError as error:
        raise errors.CannotCreate(f"cannot create {where.path}: {error.strerror}") from error
    except sqlite3.Error as error:
        raise queue_error(error, where.path) from error
    try:
        return _upgrade(connection, where)
    except sqlite3.Error as error:
        found = queue_error(error, where.path)
        raise (found if existed else errors.CannotCreate(f"cannot create the queue: {found}")) from error
    finally:
        connection.close()


def _make_file(path: str, directory: str) -> None:
    """Who may write in the directory may submit: the file has the directory's permissions for the group.

    SQLite gives the -wal and -shm files the permissions of the database.
    """
    with contextlib.suppress(FileExistsError):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.fchmod(file, 0o600 | stat.S_IMODE(os.stat(directory).st_mode) & 0o060)
        os.close(file)


def _upgrade(connection: sqlite3.Connection, where: QueuePath) -> tuple[int, int]:
    for statement in pragmas():
        connection.execute(statement)
    fresh = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    if fresh:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if connection.execute("PRAGMA encoding").fetchone() != ("UTF-8",):
        raise errors.QueueUnusable(f"{where.path} is a UTF-16 database: a queue needs one in UTF-8")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(_VERSIONS.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))
    before = _version(connection)
    if before > SCHEMA_VERSION:
        raise errors.UnknownSchema(
            f"queue {where.path} has schema {before}, this spoold knows up to {SCHEMA_VERSION}: upgrade spoold"
        )
    for number, name, script in migrations():
        if number <= before:
            continue
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}")
            record = (number, name, OLDEST_CLIENT, int(time.time() * 1000))
            connection.execute("INSERT INTO spoold_schema VALUES (?, ?, ?, ?)", record)
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if _version(connection) < number:  # else another process was faster
                raise
    check_schema(connection, where)
    return before, SCHEMA_VERSION


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM spoold_schema").fetchone()[0])


def refuse_network_file_system(directory: str) -> None:
    """SQLite's locks and shared memory do not work across a network. Raises QueueUnusable."""
    kind = file_system(directory)
    if kind in NETWORK_FILE_SYSTEMS:
        raise errors.QueueUnusable(f"{directory} is on a network file system ({kind}): put the queue on a local disk")


def file_system(directory: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The type of the file system that holds a directory; empty where the system does not tell."""
    target, best, kind = os.path.realpath(directory), "", ""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                left, _, right = line.partition(" - ")
                point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4])
                inside = target == point or target.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):
                    best, kind = point, right.split()[0]
    except (OSError, IndexError):
        return ""
    return kind
