"""A real spoold daemon as a child process, known to be ready because it says so to NOTIFY_SOCKET."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class SpoolerProcess:
    """`async with SpoolerProcess(queue, relay)`: started and ready inside, stopped and reaped after."""

    def __init__(
        self,
        queue: Path,
        relay: str | None = None,
        *,
        config: str | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] = {},
        program: Sequence[str] = ("-m", "spoold"),
    ) -> None:
        """`config`: the text of a configuration file; `program`: what Python runs."""
        self.queue = queue
        self.program = program
        self.arguments = [*arguments, *(["--relay", relay] if relay else [])]
        self.environment = environment
        self._config = config
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.log = b""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self._folder is not None:
            self._folder.cleanup()

    async def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="spoold-")
        notify = Path(self._folder.name, "notify")
        options = ["--queue", str(self.queue)]
        if self._config is not None:
            options += ["--config", _written(Path(self._folder.name, "spoold.toml"), self._config)]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(notify))
            told.setblocking(False)
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.program,
                *options,
                "run",
                *self.arguments,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._folder.name,
                env={**os.environ, "SPOOLD_LOG__FORMAT": "json", **self.environment, "NOTIFY_SOCKET": str(notify)},
            )
            self._reading = asyncio.create_task(self._read())
            ready = asyncio.create_task(self._ready(told))
            await asyncio.wait([ready, self._reading], return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                ready.cancel()
                await asyncio.gather(ready, return_exceptions=True)
                raise RuntimeError(f"the spooler ended before it was ready: {self.log.decode()}")

    async def _ready(self, told: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while b"READY=1" not in await loop.sock_recv(told, 4096):
            pass

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log += line

    def events(self, name: str) -> list[dict[str, object]]:
        """The log's events of that name."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith(b"{")]
        return [line for line in lines if line["event"] == name]

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def wait(self) -> int:
        """Its exit code; negative for a signal."""
        assert self.process is not None
        code = await self.process.wait()
        await self._reading
        return code

    async def kill(self) -> None:
        """SIGKILL: nothing is handed back."""
        self.send(signal.SIGKILL)
        await self.wait()

    async def stop(self) -> int:
        if self.process is not None and self.process.returncode is None:
            self.send(signal.SIGTERM)
            self.send(signal.SIGCONT)  # it may have been stopped
        return await self.wait()

    async def pause(self) -> None:
        """SIGSTOP, at a moment when it does not hold the queue's write lock."""
        while True:
            self.send(signal.SIGSTOP)
            with contextlib.closing(sqlite3.connect(self.queue, isolation_level=None, timeout=0.1)) as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("ROLLBACK")
                except sqlite3.OperationalError:
                    self.send(signal.SIGCONT)
                    await asyncio.sleep(0.01)  # let it end its transaction
                else:
                    return


def _written(file: Path, text: str) -> str:
    file.write_text(text)
    return str(file)
