"""Real messages, malformed ones too: submitted in every way, relayed to a real server, compared octet by octet."""

from __future__ import annotations

import asyncio
import importlib.resources
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from spooler_process import SpoolerProcess

from spoold import Spool, SpoolError
from spoold.store.database import QueuePath, create

SENDER = "app@example.com"
LARGE = b"From: a@example.com\nSubject: large\nBcc: secret@example.com\n\n" + (b"x" * 75 + b"\n") * 395_000  # 30 MB
INSERT = "INSERT INTO spoold_outbox (entry_id, sender, recipients, content) VALUES"


class Inbox:
    """What a real server has said yes to, by recipient."""

    def __init__(self) -> None:
        self.contents: dict[str, list[bytes]] = {}

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        for recipient in envelope.rcpt_tos:
            self.contents.setdefault(recipient, []).append(envelope.content)
        return "250 2.0.0 taken"


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, Inbox]]:
    inbox = Inbox()
    listening = await asyncio.get_running_loop().create_server(
        lambda: SMTP(inbox, hostname="test", data_size_limit=1 << 26, enable_SMTPUTF8=True), "127.0.0.1", 0
    )
    yield f"smtp://127.0.0.1:{listening.sockets[0].getsockname()[1]}?tls=none", inbox
    listening.close()
    await listening.wait_closed()


@pytest.fixture(scope="module")
def corpus() -> dict[str, bytes]:
    """The messages of CPython's own tests of its email package, and one of 30 MB."""
    try:
        data = importlib.resources.files("test.test_email") / "data"
        messages = {file.name: file.read_bytes() for file in data.iterdir() if file.name.endswith(".txt")}
    except (ModuleNotFoundError, FileNotFoundError):
        pytest.skip("this Python comes without its own tests (Debian: libpython3-testsuite)")
    assert len(messages) >= 40
    return {**messages, "large": LARGE}


def address(name: str) -> str:
    return f"{name.removesuffix('.txt')}@example.com"


def by_library(queue: Path, name: str, file: Path) -> str:
    with Spool(queue) as spool:
        return spool.submit(file.read_bytes(), sender=SENDER, recipients=[address(name)])


def by_command(queue: Path, name: str, file: Path) -> str:
    command = [
        sys.executable,
        "-m",
        "spoold",
        "--queue",
        str(queue),
        "submit",
        "-f",
        SENDER,
        "-r",
        address(name),
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        assert done.returncode == 65
        assert len(done.stderr.splitlines()) == 1
        raise SpoolError(done.stderr)
    return done.stdout.strip()


def by_sql(queue: Path, name: str, file: Path) -> str:
    entry_id = f"{abs(hash(name)):032x}"
    connection = sqlite3.connect(queue)
    with connection:
        values = (entry_id, SENDER, f'["{address(name)}"]', file.read_bytes())
        connection.execute(f"{INSERT} (?, ?, ?, ?)", values)
    connection.close()
    return entry_id


def by_command_line_sqlite(queue: Path, name: str, file: Path) -> str:
    program = shutil.which("sqlite3")
    assert program is not None
    entry_id = f"{abs(hash(name)):032x}"
    statement = f"""PRAGMA synchronous = FULL; {INSERT} ('{entry_id}', '{SENDER}', '["{address(name)}"]', readfile('{file}'));"""
    subprocess.run([program, "-bail", str(queue), statement], check=True)
    return entry_id


WAYS: list[Callable[[Path, str, Path], str]] = [by_library, by_command, by_sql]
if shutil.which("sqlite3"):
    WAYS.append(by_command_line_sqlite)


def on_the_wire(content: bytes) -> bytes:
    """What has to arrive: every line ends with CRLF, the header has no Bcc. Written without a look at spoold's own."""
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    kept: list[bytes] = []
    in_header, in_bcc = True, False
    for line in lines:
        if in_header and line == b"":
            in_header = False
        if in_header and not (in_bcc and line[:1] in (b" ", b"\t")):
            in_bcc = line.partition(b":")[0].strip().lower() in (b"bcc", b"resent-bcc") and b":" in line
        if not (in_header and in_bcc):
            kept.append(line)
    return b"".join(line + b"\r\n" for line in kept)


@pytest.mark.parametrize("submit", WAYS)
@pytest.mark.timeout(120)
async def test_every_real_message_arrives_octet_by_octet_or_is_refused_with_a_reason(
    tmp_path: Path,
    corpus: Mapping[str, bytes],
    server: tuple[str, Inbox],
    submit: Callable[[Path, str, Path], str],
) -> None:
    queue = tmp_path / "queue.db"
    create(QueuePath.of(queue))
    url, inbox = server
    entry_ids: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name, content in corpus.items():
        file = tmp_path / name
        file.write_bytes(content)
        try:
            entry_ids[name] = await asyncio.to_thread(submit, queue, name, file)
        except (SpoolError, sqlite3.IntegrityError) as error:
            refused[name] = str(error)
    async with SpoolerProcess(queue, url, arguments=["--drain"]) as spooler:
        assert await spooler.wait() == 0
    with Spool(queue) as spool:
        for name, entry_id in entry_ids.items():
            message = spool.get(entry_id)
            if message.state == "sent":
                assert inbox.contents[address(name)] == [on_the_wire(corpus[name])], name
            else:
                refused[name] = str(message.recipients[0].last_reply)
                assert message.state == "failed", f"{name}: {message}"
            assert spool.content(entry_id) == corpus[name], "the queue has it as it was submitted"
    assert "large" not in refused
    assert all(refused.values()), "each refusal has its reason"
    assert len(refused) <= 2, refused
