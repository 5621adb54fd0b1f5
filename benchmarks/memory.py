"""Resident memory of the daemon with many large messages in flight at once.

usage: python benchmarks/memory.py [MESSAGES] [MEGABYTES]

A server on loopback lets every transaction begin its body and reads on only when all of them have; so all are in
flight at the same time. Prints the daemon's peak resident memory, and its memory before the large messages came.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from spoold import Spool
from spoold.store.database import QueuePath, create

HEADER = b"From: a@example.com\nTo: b@example.com\nSubject: t\n\n"
END = b"\r\n.\r\n"


class Server:
    """Takes everything; bodies of more than a megabyte wait for each other."""

    def __init__(self, together: int) -> None:
        self.together = together
        self.begun = 0
        self.taken = 0
        self.all_begun = asyncio.Event()
        self.all_taken = asyncio.Event()

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        writer.write(b"220 memory\r\n")
        while line := await reader.readline():
            if line.startswith(b"EHLO"):
                writer.write(b"250-memory\r\n250 PIPELINING\r\n")
            elif line.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                await self.body(reader)
                writer.write(b"250 taken\r\n")
            elif line.startswith(b"QUIT"):
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
        writer.close()

    async def body(self, reader: asyncio.StreamReader) -> None:
        """Read to the dot."""
        read, tail = 0, b""
        while not tail.endswith(END):
            data = await reader.read(1 << 18)
            if not data:
                return
            tail = (tail + data)[-len(END) :]
            if read < 1 << 20 <= read + len(data):
                self.begun += 1
                if self.begun == self.together:
                    self.all_begun.set()
                await self.all_begun.wait()
            read += len(data)
        self.taken += read > 1 << 20
        if self.taken == self.together:
            self.all_taken.set()


def resident(process: int, what: str) -> float:
    """Megabytes: VmRSS now, VmHWM at the peak."""
    return int(re.findall(rf"{what}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())[0]) / 1024


async def main() -> None:
    """Fill a queue, drain it, look at the daemon."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    megabytes = int(sys.argv[2]) if len(sys.argv) > 2 else 25
    server = Server(messages)
    listening = await asyncio.start_server(server.session, "127.0.0.1", 0)
    relay = f"smtp://127.0.0.1:{listening.sockets[0].getsockname()[1]}?tls=none"
    with tempfile.TemporaryDirectory() as folder:
        queue = Path(folder, "queue.db")
        create(QueuePath.of(queue))
        environment = {
            **os.environ,
            "SPOOLD_SPOOLER__PER_DESTINATION": str(messages),
            "SPOOLD_SPOOLER__CONCURRENCY": str(messages),
            "SPOOLD_LOG__LEVEL": "warning",
        }
        large = HEADER + (b"x" * 75 + b"\n") * (megabytes * 1_000_000 // 76)
        with Spool(queue, durability="normal") as spool:
            for _ in range(messages * 3):  # a lane widens with its successes
                spool.submit(HEADER + b"small\n")
            for _ in range(messages):
                spool.submit(large)
        command = [sys.executable, "-m", "spoold", "--queue", str(queue), "run", "--relay", relay]
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        await server.all_begun.wait()
        together = resident(process.pid, "VmRSS")
        started = time.perf_counter()
        await server.all_taken.wait()
        seconds = time.perf_counter() - started
        peak = resident(process.pid, "VmHWM")
        process.terminate()
        await process.wait()
    print(
        f"{messages} messages of {megabytes} MB, all in flight: {together:.0f} MB resident, {peak:.0f} MB at the peak"
    )
    print(f"{messages * megabytes / seconds:.0f} MB/s from there to the last acceptance")
    listening.close()


asyncio.run(main())
