import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from spoold import errors
from spoold.store import database
from spoold.store.database import QueuePath

CREATE = """
import sys
from spoold.store.database import QueuePath, create
sys.stdin.read()  # everybody starts when the test closes the pipe
print(*create(QueuePath(sys.argv[1])))
"""


@pytest.fixture
def where(tmp_path: Path) -> QueuePath:
    return QueuePath(str(tmp_path / "queue.db"))


def sql(where: QueuePath, script: str) -> None:
    with closing(sqlite3.connect(where.path)) as connection:
        connection.executescript(script)


def one(where: QueuePath, query: str) -> tuple[object, ...]:
    with closing(sqlite3.connect(where.path)) as connection:
        (row,) = connection.execute(query).fetchall()
        return tuple(row)


def objects(where: QueuePath) -> set[str]:
    with closing(sqlite3.connect(where.path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")}


def check(where: QueuePath) -> None:
    database.open_queue(where).close()


# -- creating ----------------------------------------------------------------------------------------------------------


def test_a_queue_is_created_from_nothing_with_its_directory(tmp_path: Path) -> None:
    where = QueuePath(str(tmp_path / "a" / "b" / "queue.db"))
    assert database.create(where) == (0, database.SCHEMA_VERSION)
    check(where)
    assert one(where, "PRAGMA journal_mode") == ("wal",)
    assert one(where, "PRAGMA auto_vacuum") == (2,)  # incremental
    assert one(where, "SELECT max(version), count(*) FROM spoold_schema") == (database.SCHEMA_VERSION,) * 2


def test_creating_it_again_changes_nothing(where: QueuePath) -> None:
    database.create(where)
    before = one(where, "SELECT group_concat(sql), (SELECT applied FROM spoold_schema) FROM sqlite_schema")
    assert database.create(where) == (database.SCHEMA_VERSION, database.SCHEMA_VERSION)
    assert one(where, "SELECT group_concat(sql), (SELECT applied FROM spoold_schema) FROM sqlite_schema") == before


def test_processes_that_create_it_at_once_all_find_it_created(tmp_path: Path) -> None:
    for turn in range(5):
        where = QueuePath(str(tmp_path / f"{turn}.db"))
        creators = [
            subprocess.Popen(
                [sys.executable, "-c", CREATE, where.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for creator in creators:
            assert creator.stdin is not None
            creator.stdin.close()
            creator.stdin = None
        for creator in creators:
            output, complaints = creator.communicate()
            assert complaints == ""
            assert output in ("0 1\n", "1 1\n")
        check(where)
        assert one(where, "SELECT count(*) FROM spoold_schema") == (database.SCHEMA_VERSION,)


def test_a_queue_can_live_in_an_applications_own_database(where: QueuePath) -> None:
    sql(
        where,
        """CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL);
        INSERT INTO orders VALUES (1, 9.5);
        CREATE INDEX orders_total ON orders (total);
        CREATE VIEW spoolduck AS SELECT * FROM orders;
        CREATE TRIGGER orders_paid AFTER UPDATE ON orders BEGIN SELECT 1; END;""",
    )
    database.create(where)
    check(where)
    sql(where, "CREATE TABLE more (x); CREATE VIEW mail AS SELECT entry_id FROM spoold_outbox; ANALYZE;")
    check(where)
    assert one(where, "SELECT * FROM orders") == (1, 9.5)
    assert {"orders", "orders_total", "orders_paid", "spoolduck"} <= objects(where)


def test_the_group_of_the_directory_may_write_if_it_may_write_there(tmp_path: Path) -> None:
    for mode, expected in ((0o2770, 0o660), (0o750, 0o640), (0o700, 0o600)):
        directory = tmp_path / f"{mode:o}"
        directory.mkdir()
        directory.chmod(mode)
        where = QueuePath(str(directory / "queue.db"))
        database.create(where)
        assert os.stat(where.path).st_mode & 0o777 == expected


# -- a migration that breaks off ---------------------------------------------------------------------------------------


def test_a_migration_that_fails_in_the_middle_leaves_nothing(where: QueuePath, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "CREATE TABLE spoold_first (x);\nINSERT INTO spoold_first VALUES (1);\nCREATE TABLE spoold_second (x, x);"
    with monkeypatch.context() as patch:
        patch.setattr(database, "migrations", lambda: ((1, "0001_broken", broken),))
        with pytest.raises(errors.CannotCreate, match="duplicate column name"):
            database.create(where)
    leaves_nothing(where)


def test_a_crash_between_a_migration_and_its_record_leaves_nothing(
    where: QueuePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash() -> float:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(database, "time", SimpleNamespace(time=crash))
        with pytest.raises(MemoryError):
            database.create(where)
    leaves_nothing(where)


def leaves_nothing(where: QueuePath) -> None:
    assert objects(where) <= {"spoold_schema"}
    assert one(where, "SELECT count(*) FROM spoold_schema") == (0,)
    with pytest.raises(errors.QueueMissing, match="unfinished"):
        check(where)
    assert database.create(where) == (0, database.SCHEMA_VERSION)
    check(where)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_schema_that_is_newer_is_refused_unless_it_still_serves_us(where: QueuePath) -> None:
    database.create(where)
    newer = database.SCHEMA_VERSION + 1
    sql(where, f"INSERT INTO spoold_schema VALUES ({newer}, 'next', {newer}, 0); CREATE TABLE spoold_next (x);")
    for attempt in (check, database.create):
        with pytest.raises(errors.UnknownSchema, match="upgrade spoold") as caught:
            attempt(where)
        assert caught.value.exit_code == 69
    sql(where, "UPDATE spoold_schema SET oldest_client = 1")
    check(where)


@pytest.mark.parametrize(
    "alteration",
    [
        "ALTER TABLE spoold_recipient ADD COLUMN mine TEXT",
        "DROP TRIGGER spoold_recipient_moved",
        "DROP INDEX spoold_recipient_ready",
        "CREATE INDEX mine ON spoold_message (subject)",
        "CREATE TRIGGER mine AFTER UPDATE ON spoold_recipient BEGIN DELETE FROM spoold_content; END",
        "CREATE TRIGGER mine INSTEAD OF UPDATE ON spoold_outbox BEGIN SELECT 1; END",
        "CREATE TABLE spoold_mine (x)",
        "DROP VIEW spoold_status; CREATE VIEW spoold_status AS SELECT * FROM spoold_message",
        "DROP TABLE spoold_transport",
        "ALTER TABLE spoold_key RENAME COLUMN created TO made",
    ],
)
def test_a_schema_that_was_altered_is_refused(where: QueuePath, alteration: str) -> None:
    database.create(where)
    sql(where, alteration)
    with pytest.raises(errors.QueueDamaged) as caught:
        check(where)
    assert caught.value.exit_code == 69
    with pytest.raises(errors.QueueDamaged):
        database.create(where)


def test_a_database_in_utf_16_is_refused(where: QueuePath) -> None:
    sql(where, "PRAGMA encoding = 'UTF-16'; CREATE TABLE orders (id);")
    with pytest.raises(errors.QueueUnusable, match="UTF-16") as caught:
        database.create(where)
    assert caught.value.exit_code == 69
    assert objects(where) == {"orders"}


def test_a_file_that_is_no_database_is_refused_and_left_alone(where: QueuePath) -> None:
    Path(where.path).write_text("Dear diary,\n" * 1000)
    for attempt in (check, database.create):
        with pytest.raises(errors.QueueDamaged):
            attempt(where)
    assert Path(where.path).read_text() == "Dear diary,\n" * 1000


def test_only_create_creates(tmp_path: Path, where: QueuePath) -> None:
    with pytest.raises(errors.QueueMissing, match="spoold migrate"):
        check(where)
    with pytest.raises(errors.QueueMissing, match="does not exist"):
        check(QueuePath(str(tmp_path / "typo" / "queue.db")))
    sql(where, "CREATE TABLE orders (id)")
    with pytest.raises(errors.QueueMissing, match="has no queue in it"):
        check(where)
    assert os.listdir(tmp_path) == ["queue.db"]


def test_a_queue_cannot_be_where_a_directory_or_no_directory_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "queue.db"):
        with pytest.raises(errors.CannotCreate) as caught:
            database.create(QueuePath(str(path)))
        assert caught.value.exit_code == 73


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory of somebody else's, seen by a user who may do nothing in particular."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    if os.geteuid() != 0:
        yield directory
    else:
        groups = os.getgroups()
        os.setgroups([])
        os.setresgid(65534, 65534, 0)
        os.setresuid(65534, 65534, 0)
        try:
            yield directory
        finally:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups(groups)
    directory.chmod(0o755)
    shutil.rmtree(directory)


@pytest.fixture
def read_only() -> Iterator[QueuePath]:
    """A queue in a directory that nobody may write; made before `unprivileged` takes the rights away."""
    directory = Path(tempfile.mkdtemp())
    where = QueuePath(str(directory / "queue.db"))
    database.create(where)
    Path(where.path).chmod(0o444)
    directory.chmod(0o555)
    yield where
    directory.chmod(0o755)
    shutil.rmtree(directory)


def test_a_queue_is_not_created_where_this_user_may_not_write(unprivileged: Path) -> None:
    if os.geteuid() == os.stat(unprivileged).st_uid:
        unprivileged.chmod(0o555)
    for path in (unprivileged / "queue.db", unprivileged / "deeper" / "queue.db"):
        with pytest.raises(errors.CannotCreate) as caught:
            database.create(QueuePath(str(path)))
        assert caught.value.exit_code == 73
    assert os.listdir(unprivileged) == []


def test_a_queue_that_this_user_may_not_write_is_told_so(read_only: QueuePath, unprivileged: Path) -> None:
    for attempt in (check, database.create):
        with pytest.raises(errors.NoAccess) as caught:
            attempt(read_only)
        assert caught.value.exit_code == 77


# -- file systems ------------------------------------------------------------------------------------------------------

MOUNTS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /srv rw,relatime shared:2 - nfs4 server:/srv rw,vers=4.2
31 30 8:2 / /srv/local rw,relatime - xfs /dev/sdb1 rw
32 22 0:26 / /mnt/my\\040share rw - cifs //server/share rw
33 22 0:27 / /mnt/b\u00fccher rw - fuse.sshfs ann@server: rw
34 22 0:28 / /over rw - ext4 /dev/sdc1 rw
35 34 0:29 / /over rw - 9p host rw
broken line
"""


@pytest.fixture
def mounts(tmp_path: Path) -> str:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS.replace("broken line\n", ""), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/", "ext4"),
        ("/var/spool", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/deep/er", "nfs4"),
        ("/srvice", "ext4"),
        ("/srv/local/queue", "xfs"),
        ("/mnt/my share/queue", "cifs"),
        ("/mnt/b\u00fccher", "fuse.sshfs"),
        ("/over/it", "9p"),
    ],
)
def test_the_innermost_and_last_mount_tells_the_file_system(mounts: str, directory: str, kind: str) -> None:
    assert database.file_system(directory, mounts) == kind


def test_a_system_that_does_not_tell_is_no_reason_to_refuse(tmp_path: Path) -> None:
    assert database.file_system("/srv", str(tmp_path / "missing")) == ""
    (tmp_path / "odd").write_text(MOUNTS)
    assert database.file_system("/srv", str(tmp_path / "odd")) in ("", "nfs4")


@pytest.mark.parametrize("kind", sorted(database.NETWORK_FILE_SYSTEMS))
def test_a_network_file_system_is_refused(where: QueuePath, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(database, "file_system", lambda _: kind)
    with pytest.raises(errors.QueueUnusable, match="local disk") as caught:
        database.create(where)
    assert caught.value.exit_code == 69
    assert not os.path.exists(where.path)


def test_the_network_file_systems_in_use_are_known() -> None:
    assert {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"} <= database.NETWORK_FILE_SYSTEMS
