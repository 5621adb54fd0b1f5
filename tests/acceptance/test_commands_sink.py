"""spoold sink: a capture server that takes everything and sends nothing."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import Command

CONTENT = b"From: app@example.com\r\nTo: ann@example.com\r\nSubject: caf\xc3\xa9 \x1b[31m\r\n\r\n.hello\r\n"


@pytest.fixture
def spoold(tmp_path: Path) -> Command:
    return Command(tmp_path, tmp_path / "queue.db")


@contextmanager
def running(spoold: Command, *arguments: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The sink's port, once it listens; stopped by SIGTERM."""
    process = spoold.start("sink", "--listen", "127.0.0.1:0", *arguments)
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    assert line.startswith("spoold: the sink listens on 127.0.0.1:"), line
    try:
        yield int(line.rpartition(":")[2]), process
    finally:
        process.terminate()
        _, err = process.communicate()
    assert (process.returncode, err) == (0, b"")


def test_every_mail_is_a_line_and_a_file(spoold: Command, tmp_path: Path) -> None:
    with running(spoold, "--directory", "captured") as (port, process):
        assert process.stdout is not None
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("app@example.com", ["ann@example.com", "bob@example.com"], CONTENT)
            client.sendmail("", "ann@example.com", CONTENT)
        lines = [process.stdout.readline().decode() for _ in range(2)]
    assert "app@example.com -> ann@example.com, bob@example.com" in lines[0]
    assert "<> -> ann@example.com" in lines[1]
    assert "café" in lines[0]
    assert "\x1b" not in lines[0]
    files = sorted((tmp_path / "captured").iterdir())
    assert [file.suffix for file in files] == [".eml", ".eml"]
    assert [file.read_bytes() for file in files] == [CONTENT, CONTENT]


def test_the_reply_to_the_dot_may_be_delayed(spoold: Command) -> None:
    with running(spoold, "--delay", "3600") as (port, process):
        assert process.stdout is not None
        client = smtplib.SMTP("127.0.0.1", port)
        client.ehlo()
        client.mail("app@example.com")
        client.rcpt("ann@example.com")
        assert client.docmd("DATA")[0] == 354
        client.send(b"Subject: late\r\n\r\n.\r\n")
        assert process.stdout.readline().endswith(b"late\n")  # it has the mail, but does not say so
        client.close()


@pytest.mark.parametrize("arguments", [["--listen", "here"], ["--listen", "127.0.0.1:70000"], ["--delay", "-1"]])
def test_what_makes_no_sense_is_a_usage_error(spoold: Command, arguments: list[str]) -> None:
    done = spoold("sink", *arguments)
    assert (done.code, done.out) == (64, "")
    assert done.err.count("\n") == 1


def test_a_port_that_is_taken_gives_69(spoold: Command) -> None:
    with running(spoold) as (port, _):
        done = spoold("sink", "--listen", f"127.0.0.1:{port}")
        assert done.code == 69
        assert f"cannot listen on 127.0.0.1:{port}" in done.err
        assert done.err.count("\n") == 1


def test_a_directory_that_cannot_be_made_gives_73(spoold: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert spoold("sink", "--directory", "file/captured").code == 73


def test_without_aiosmtpd_it_says_what_to_install(spoold: Command, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['aiosmtpd.smtp'] = None\n"
        "from spoold.cli.main import main; sys.exit(main(['sink', '--listen', '127.0.0.1:0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=spoold.environment, check=False
    )
    assert (done.returncode, done.stderr) == (69, "spoold: sink needs aiosmtpd: pip install 'spoold[dev]'\n")
