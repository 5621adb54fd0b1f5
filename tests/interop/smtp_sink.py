"""Postfix's smtp-sink(1): a server that says yes to everything, or fails where its options tell it to."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from waiting import eventually

from tests.interop.loopback import free_ports, listens

NOBODY = "nobody"  # smtp-sink does not serve as root
_DUMP = re.compile(
    rb"X-Client-Addr: 127\.0\.0\.1\n"
    rb"X-Client-Proto: (?P<protocol>[A-Z]+)\n"
    rb"(?:X-Helo-Args: .*\n)?"
    rb"X-Mail-Args: (?P<mail>.*)\n"
    rb"(?P<rcpts>(?:X-Rcpt-Args: .*\n)+)"
    rb"Received: .*\n\t.*\n\t.*\n"
    rb"(?P<content>(?s:.*))\n\Z"
)


@dataclass(frozen=True, slots=True)
class Sunk:
    """One message as smtp-sink has it: CR and the dots of transparency removed. `mail` and `rcpts`: the arguments."""

    protocol: str
    mail: str
    rcpts: tuple[str, ...]
    content: bytes


class SmtpSink:
    """`async with SmtpSink("-f", "RCPT")`: listening inside, gone after. The options are those of smtp-sink(1).

    smtp-sink writes a message down when it has read the dot, whatever it answers then, and throws away what ends
    before: so `mails` also tells whether there was a dot.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        """`folder` is the root of its file system, empty but for the messages."""
        self.options = options
        self.port = 0
        self._folder = folder
        self._log = folder.with_suffix(".log")
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        program = shutil.which("smtp-sink", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise FileNotFoundError("smtp-sink is not installed (Debian: postfix); tools/interop.sh does that")
        self._folder.mkdir()
        os.chown(self._folder, pwd.getpwnam(NOBODY).pw_uid, -1)
        (self.port,) = free_ports(1)
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(program, "-4", "-u", NOBODY, "-R", str(self._folder), "-d", "mail."),
                *(*self.options, f"127.0.0.1:{self.port}", "100"),
                stdout=log,
                stderr=log,
            )
        try:
            await eventually(self._listens)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise RuntimeError(f"smtp-sink {' '.join(self.options)} did not start: {self.log}")
        return listens(self.port)

    async def _stop(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?tls=none"

    @property
    def log(self) -> str:
        """What it has said so far; with the options -v -v -v also every read from the network."""
        return self._log.read_text("ascii", "backslashreplace")

    @property
    def mails(self) -> list[Sunk]:
        """Every message of which it has seen the dot, in no particular order."""
        return [_read(file.read_bytes()) for file in self._folder.iterdir()]


def _read(dump: bytes) -> Sunk:
    match = _DUMP.match(dump)
    assert match is not None, dump[:2000]
    rcpts = tuple(line.removeprefix("X-Rcpt-Args: ") for line in match["rcpts"].decode().splitlines())
    return Sunk(match["protocol"].decode(), match["mail"].decode(), rcpts, match["content"])
