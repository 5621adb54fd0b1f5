"""Whatever is wrong, the daemon says so in one clear line with the right exit code, and makes nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from spoold.store.database import QueuePath, create

RELAY = ("--relay", "smtp://127.0.0.1:1?tls=none")
NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else, or mount")


# Python itself may stand where only root can read: everything is imported before root is given up
BECOME_NOBODY = f"""
import os, sys
import spoold.cli.reading, spoold.settings, spoold.spooler.daemon, spoold_smtp, uvloop
from spoold.cli import main
os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
sys.exit(main.main(sys.argv[1:]))
"""


def spoold(folder: Path, *arguments: str, program: Sequence[str] = ("-m", "spoold")) -> tuple[int, list[str]]:
    """The exit code and the lines on standard error."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPOOLD_")}
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def configured(folder: Path, text: str) -> tuple[int, list[str]]:
    (folder / "spoold.toml").write_text(text)
    answer = spoold(folder, "--queue", "queue.db", "run", "--drain")
    assert not (folder / "queue.db").exists(), "a daemon that cannot start creates no queue"
    return answer


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["no transport: name one with --relay"]),
        ("[transports.relay]\ntype = 'smtp'\n", ["spoold.toml:1: transports.relay.host: is missing"]),
        ("[transports.relay]\nhost = 'h'\nport = 'abc'\n", ['spoold.toml:3: transports.relay.port = "abc"']),
        ("[transports.relay]\nhost = 'h'\nprot = 25\n", ["spoold.toml:3: transports.relay.prot: unknown key"]),
        ("[spooler]\nlease = 'soon'\n", ['spoold.toml:2: spooler.lease = "soon"']),
        (
            "[queue]\ndurability = 5\n[spooler]\nx = 1\n",
            ["spoold.toml:2: queue.durability = 5", "spoold.toml:4: spooler.x"],
        ),
        ("[spooler\n", ["spoold.toml:1: not valid TOML"]),
        ("[transports.a]\nhost='h'\n[[routes]]\ntransports=['b']\n", ["spoold.toml:4: routes[0].transports"]),
    ],
)
def test_each_error_of_the_configuration_is_one_line_with_its_place_key_and_value(
    tmp_path: Path, text: str, lines: list[str]
) -> None:
    code, told = configured(tmp_path, text)
    assert code == 78
    assert len(told) == len(lines), told
    for line, expected in zip(told, lines, strict=True):
        assert line.startswith("spoold: ")
        assert expected in line


def test_a_password_in_a_relay_that_cannot_be_used_is_not_repeated(tmp_path: Path) -> None:
    code, told = spoold(tmp_path, "--queue", "q.db", "run", "--relay", "smtp://app:s3cret@host:99999")
    assert code == 78
    assert "s3cret" not in "".join(told)


LATER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("INSERT INTO spoold_schema VALUES (99, 'later', 99, 0)")
connection.close()
"""


def test_a_queue_of_a_newer_spoold_is_refused(tmp_path: Path) -> None:
    where = QueuePath.of(tmp_path / "queue.db")
    create(where)
    subprocess.run(
        [sys.executable, "-c", LATER, where.path],
        check=True,
    )
    for command in (["run", *RELAY], ["list"], ["submit"], ["migrate"]):
        code, told = spoold(tmp_path, "--queue", "queue.db", *command)
        assert code == 69
        assert told == [f"spoold: queue {where.path} has schema 99, this spoold knows up to 1: upgrade spoold"]


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_text("these are not the rows you are looking for")
    code, told = spoold(tmp_path, "--queue", "queue.db", "run", *RELAY)
    assert code == 69
    assert "no SQLite database" in told[0]


def test_a_queue_that_is_not_there_swallows_no_mail(tmp_path: Path) -> None:
    for command in ("submit", "list", "status"):
        code, told = spoold(tmp_path, "--queue", "typo/queue.db", command)
        assert code == 69
        assert "does not exist" in told[0]
    assert not (tmp_path / "typo").exists()


@AS_ROOT
def test_a_queue_without_permission_is_refused(tmp_path: Path) -> None:
    create(QueuePath.of(tmp_path / "queue.db"))
    for folder in [tmp_path, *tmp_path.parents][:-2]:
        folder.chmod(0o755)
    for command in (["run", *RELAY], ["list"]):
        code, told = spoold(tmp_path, "--queue", "queue.db", *command, program=("-c", BECOME_NOBODY))
        assert code == 77
        assert "join the queue's group" in told[0]
    code, told = spoold(tmp_path, "--queue", "other.db", "run", *RELAY, program=("-c", BECOME_NOBODY))
    assert code == 73
    assert "no permission to write" in told[0]


@AS_ROOT
def test_a_read_only_file_system_is_named(tmp_path: Path) -> None:
    script = f"""
        mount -t tmpfs none {tmp_path} &&
        {sys.executable} -m spoold --queue {tmp_path}/queue.db migrate &&
        mount -o remount,ro {tmp_path} &&
        for command in "run {" ".join(RELAY)}" submit list; do
            {sys.executable} -m spoold --queue {tmp_path}/queue.db $command; echo $?
        done
    """
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no mounts here: a container without the capability")
    assert done.stdout.split()[-3:] == ["69", "69", "69"]
    assert done.stderr.count("is on a read-only file system: remount it for writing\n") == 3
