"""spoold sink: an SMTP server that takes every mail and sends none, for trying things out."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import time
from datetime import UTC, datetime
from typing import Any

from spoold.cli.display import note, plain
from spoold.errors import CannotCreate, Unavailable, UsageError
from spoold.message import header_end, subject_of

LARGEST = 1 << 30  # octets of a message


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "sink",
        help="a capture SMTP server for trying things out",
        description="Take every mail and send none: a line for each on standard output. Needs the extra `dev`. SIGTERM"
        " and SIGINT stop it.",
        epilog="example: spoold sink --listen 127.0.0.1:2525 --directory captured",
    )
    parser.add_argument("--listen", default="127.0.0.1:2525", metavar="HOST:PORT", help="port 0: any free one")
    parser.add_argument("--directory", metavar="DIR", help="store each mail there as an .eml file")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="wait before each final reply")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped."""
    try:
        from aiosmtpd.smtp import SMTP
    except ImportError as error:
        raise Unavailable("sink needs aiosmtpd: pip install 'spoold[dev]'") from error
    host, port = _address(args.listen)
    if not 0 <= args.delay < 1e6:
        raise UsageError(f"--delay {args.delay}: give seconds, like --delay 0.5")
    if args.directory is not None:
        try:
            os.makedirs(args.directory, exist_ok=True)
        except OSError as error:
            raise CannotCreate(f"cannot create the directory {args.directory}: {error.strerror}") from error
    handler = _Handler(args.directory, args.delay)

    def protocol() -> SMTP:
        return SMTP(handler, data_size_limit=LARGEST, enable_SMTPUTF8=True, ident="spoold sink")

    asyncio.run(_serve(protocol, host, port))
    return 0


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen {listen!r}: give HOST:PORT, like 127.0.0.1:2525")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


async def _serve(protocol: Any, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, stop.set)
    try:
        server = await loop.create_server(protocol, host, port)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror or error}: choose another --listen"
        ) from error
    async with server:
        bound = server.sockets[0].getsockname()
        note(f"spoold: the sink listens on {bound[0]}:{bound[1]}")
        await stop.wait()


class _Handler:
    """What aiosmtpd calls at the end of a mail."""

    def __init__(self, directory: str | None, delay: float) -> None:
        self._directory = directory
        self._delay = delay
        self._numbers = itertools.count(1)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: ARG002, N802 - aiosmtpd's
        """Store it, tell it, and accept it."""
        content = bytes(envelope.content)
        try:
            self._store(content)
        except OSError as error:
            note(f"spoold: cannot write {error.filename}: {error.strerror}")
            return f"452 4.3.1 cannot store: {error.strerror}"
        subject = subject_of(content[: header_end(content)])
        line = (
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}  {envelope.mail_from or '<>'} -> {', '.join(envelope.rcpt_tos)}"
            f"  {len(content)} octets  {subject}"
        )
        print(plain(line), flush=True)
        if self._delay:
            await asyncio.sleep(self._delay)
        return "250 2.0.0 taken and not sent"

    def _store(self, content: bytes) -> None:
        if self._directory is not None:
            name = f"{time.time_ns()}-{os.getpid()}-{next(self._numbers)}.eml"
            with open(os.path.join(self._directory, name), "xb") as file:
                file.write(content)
