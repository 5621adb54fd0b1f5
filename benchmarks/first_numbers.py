"""Rates and latencies of one spooler process against smtp-sink (Debian's postfix), durability full.

usage: python benchmarks/first_numbers.py [MESSAGES]

Prints, as medians of three runs: the drain of a held queue, end to end with a submitting process at the same time,
`Spool.submit` while idle, and the time from submit's return to the recorded acceptance while idle. The raw cost of a
commit on the same disk and of aiosmtplib without any queue stand beside them, since every machine differs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiosmtplib

from spoold import Spool
from spoold.store.database import QueuePath, create

CONTENT = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: t\r\n\r\n" + (b"y" * 76 + b"\r\n") * 26
CONNECTIONS = 50
RUNS = 3


@contextlib.contextmanager
def sink() -> Iterator[int]:
    """A fast SMTP server that takes everything, on a free port of loopback."""
    program = shutil.which("smtp-sink", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        sys.exit("smtp-sink is not installed: it comes with Debian's postfix package")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    process = subprocess.Popen([program, *user, f"127.0.0.1:{port}", "1000"])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def spooler(queue: Path, port: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One `spoold run` on the queue."""
    environment = {**os.environ, "SPOOLD_SPOOLER__PER_DESTINATION": str(CONNECTIONS), "SPOOLD_LOG__LEVEL": "warning"}
    relay = f"smtp://127.0.0.1:{port}?tls=none"
    command = [sys.executable, "-m", "spoold", "--queue", str(queue), "run", "--relay", relay, *arguments]
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def sent(connection: sqlite3.Connection) -> int:
    """How many recipients are recorded as accepted."""
    return int(connection.execute("SELECT count(*) FROM spoold_event WHERE kind = 'sent'").fetchone()[0])


def drain(queue: Path, port: int, messages: int) -> float:
    """Messages a second out of a queue that was full before the spooler started, from release to the last record."""
    with Spool(queue) as spool:
        entry_ids = [entry_id for _ in range(messages // 100) for entry_id in spool.submit_many([CONTENT] * 100)]
    connection = sqlite3.connect(queue)
    started = time.time() * 1000
    with spooler(queue, port, "--drain") as process:
        process.wait()
    (begun,) = connection.execute("SELECT min(started) FROM spoold_spooler").fetchone()
    (end,) = connection.execute("SELECT max(at) FROM spoold_event WHERE kind = 'sent'").fetchone()
    assert sent(connection) == len(entry_ids)
    assert begun >= started
    return messages / ((end - begun) / 1000)


def end_to_end(queue: Path, port: int, messages: int) -> float:
    """Messages a second with one process that submits them one by one while the spooler sends."""
    connection = sqlite3.connect(queue)
    with spooler(queue, port), Spool(queue) as spool:
        spool.wait(spool.submit(CONTENT), timeout=20)
        started = time.perf_counter()
        for _ in range(messages):
            spool.submit(CONTENT)
        while sent(connection) < messages + 1:
            time.sleep(0.005)
        return messages / (time.perf_counter() - started)


def idle(queue: Path, port: int) -> tuple[list[float], list[float]]:
    """(seconds of submit, seconds from its return to the recorded acceptance), one message at a time."""
    submits, latencies = [], []
    connection = sqlite3.connect(queue, isolation_level=None)
    with spooler(queue, port), Spool(queue) as spool:
        spool.wait(spool.submit(CONTENT), timeout=20)
        for _ in range(300):
            time.sleep(0.01)
            before = sent(connection)
            start = time.perf_counter()
            spool.submit(CONTENT)
            returned = time.perf_counter()
            while sent(connection) == before:
                time.sleep(0.0002)
            latencies.append(time.perf_counter() - returned)
            submits.append(returned - start)
    return submits, latencies


def bare_commit(folder: Path) -> float:
    """Seconds of one small durable SQLite transaction here."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (x)")
    times = []
    for _ in range(300):
        start = time.perf_counter()
        connection.execute("INSERT INTO t VALUES (zeroblob(2000))")
        times.append(time.perf_counter() - start)
    return statistics.median(times)


async def library_alone(port: int, messages: int) -> float:
    """Messages a second of aiosmtplib.sendmail without any queue, over as many connections."""
    left = iter(range(messages))

    async def worker() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as client:
            for _ in left:
                await client.sendmail("a@example.com", ["b@example.com"], CONTENT)

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    return messages / (time.perf_counter() - start)


def main() -> None:
    """Run all of it and print a table."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    figures: dict[str, list[float]] = {}
    with sink() as port:
        for run in range(RUNS):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                for queue in ("drain", "end", "idle"):
                    create(QueuePath.of(str(folder / queue)))
                figures.setdefault("drain, messages/s", []).append(drain(folder / "drain", port, messages))
                figures.setdefault("end to end, messages/s", []).append(end_to_end(folder / "end", port, messages))
                submits, latencies = idle(folder / "idle", port)
                figures.setdefault("submit p50, ms", []).append(statistics.median(submits) * 1000)
                figures.setdefault("submit to accepted p50, ms", []).append(statistics.median(latencies) * 1000)
                figures.setdefault("a bare commit p50, ms", []).append(bare_commit(folder) * 1000)
                alone = asyncio.run(library_alone(port, messages))
                figures.setdefault("aiosmtplib alone, messages/s", []).append(alone)
            print(f"run {run + 1} of {RUNS} done", file=sys.stderr)
    for name, values in figures.items():
        print(f"{name:32} {statistics.median(values):10.2f}   ({', '.join(f'{value:.2f}' for value in values)})")


if __name__ == "__main__":
    main()
