"""A delivery without a queue, and a server that plays a script."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from types import TracebackType
from typing import Self

from spoold.provider import Recipient, Withdrawn

BODY = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: t\r\n\r\nHello.\r\n"
ANN = Recipient(1, "ann@example.com")
BOB = Recipient(2, "bob@example.com")
CAT = Recipient(3, "cat@example.com")


class FakeDelivery:
    """One attempt with everything in memory. `lock_entered` is set when lock() is called; `on_lock` stands in for it."""

    destination = ""
    entry_id = "0190"

    def __init__(
        self,
        *recipients: Recipient,
        sender: str = "sender@example.com",
        content: bytes | Sequence[bytes] = BODY,
        size: int | None = None,
        utf8: bool = False,
        on_lock: Callable[[Collection[Recipient]], Awaitable[None]] | None = None,
    ) -> None:
        self.recipients = recipients or (ANN,)
        self.sender = sender
        self.chunks = [content] if isinstance(content, bytes) else list(content)
        self.size = sum(map(len, self.chunks)) if size is None else size
        self.eight_bit = any(not chunk.isascii() for chunk in self.chunks)
        self.utf8 = utf8
        self.on_lock = on_lock
        self.locked: list[tuple[Recipient, ...]] = []
        self.lock_entered = asyncio.Event()
        self.contents_opened = 0
        self.contents_closed = 0

    async def content(self) -> AsyncIterator[bytes]:
        self.contents_opened += 1
        try:
            for chunk in self.chunks:
                yield chunk
        finally:
            self.contents_closed += 1

    async def lock(self, recipients: Collection[Recipient]) -> None:
        self.lock_entered.set()
        if self.on_lock is not None:
            await self.on_lock(recipients)
        self.locked.append(tuple(recipients))


async def withdrawn(recipients: Collection[Recipient]) -> None:
    """An abort came first."""
    raise Withdrawn(list(recipients)[:1])


async def forever(_recipients: Collection[Recipient]) -> None:
    """A lock that is not granted before the test is over."""
    await asyncio.get_running_loop().create_future()


class Hangup(Exception):
    """The client ended the connection."""


class Session:
    """The server's side of one connection. `read` is every octet that came in; `end` is "eof" or "reset".

    QUIT is answered once the script is over.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.read = bytearray()
        self._buffer = bytearray()
        self.end = ""
        self.quit = False
        self.failure: BaseException | None = None
        self.over = asyncio.Event()

    async def greet(self, *extensions: str) -> None:
        """220, and the reply to EHLO with these extensions."""
        self.say("220 relay.test ESMTP")
        await self.expect("EHLO ")
        self.say(*(f"250-{line}" for line in ("relay.test", *extensions)), "250 HELP")

    def say(self, *lines: str) -> None:
        """One reply, or a part of it, or several."""
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())

    def say_raw(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def expect(self, *beginnings: str) -> list[str]:
        """The next lines, which must begin so."""
        lines = []
        for beginning in beginnings:
            line = (await self._until(b"\r\n")).decode()
            assert line.startswith(beginning), f"expected {beginning!r}, got {line!r}"
            lines.append(line.rstrip("\r\n"))
        return lines

    async def envelope(self, *, recipients: int = 1) -> None:
        """Take a pipelined envelope and accept all of it."""
        await self.expect("MAIL ", *["RCPT "] * recipients, "DATA")
        self.say("250 2.1.0 ok", *["250 2.1.5 ok"] * recipients, "354 go ahead")

    async def message(self) -> bytes:
        """The data to the final dot, as it came over the wire."""
        return await self._until(b"\r\n.\r\n")

    async def octets(self, count: int) -> None:
        """So many octets of whatever."""
        while len(self._buffer) < count:
            await self._more()
        del self._buffer[:count]

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    @property
    def ahead(self) -> bool:
        """True if the client has said more than was expected so far."""
        return bool(self._buffer or self.reader._buffer)  # type: ignore[attr-defined]

    async def _more(self) -> None:
        chunk = await self.reader.read(65536)
        if not chunk:
            raise Hangup
        self.read += chunk
        self._buffer += chunk

    async def _until(self, end: bytes) -> bytes:
        searched = 0
        while (at := self._buffer.find(end, searched)) < 0:
            searched = max(0, len(self._buffer) - len(end))
            await self._more()
        at += len(end)
        data = bytes(self._buffer[:at])
        del self._buffer[:at]
        return data


Script = Callable[[Session], Awaitable[None]]


class ScriptedServer:
    """Plays `scripts`, one for each connection in turn; what the client does to end a connection ends its script.

    Leaving the context checks that every script was played and none failed.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = list(scripts)
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.sessions: list[Session] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._play, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        if exc is not None:
            for session in self.sessions:
                session.writer.transport.abort()
            return
        for session in self.sessions:
            await session.over.wait()
            if session.failure is not None:
                raise session.failure
        assert not self._scripts, "not every script was played"

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(reader, writer)
        self.sessions.append(session)
        try:
            assert self._scripts, "one connection more than there are scripts"
            try:
                await self._scripts.pop(0)(session)
                while chunk := await reader.read(65536):
                    session.read += chunk
                    if session.read.endswith(b"QUIT\r\n"):
                        session.quit = True
                        session.say("221 bye")
                        break
            except Hangup:
                pass
            session.end = "eof"
        except ConnectionError:
            session.end = "reset"
        except BaseException as exc:  # noqa: BLE001 - told to whoever leaves the context
            session.failure = exc
        finally:
            session.over.set()
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()
