"""An SMTP server that tests hold in their hands: real sockets, real transactions, and a hand on every step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass(slots=True)
class Mail:
    """What the server said yes to: dots removed, line endings as they came."""

    sender: str
    recipients: list[str]
    content: bytes


@dataclass(slots=True)
class Transaction:
    """What one mail transaction has come to, as the server sees it."""

    sender: str
    recipients: list[str] = field(default_factory=list)
    body_read: int = 0
    dot: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # answered, reset or broken off


class SmtpServer:
    """Listens on loopback. `rcpt` and `dot` say what is answered; the gates stop it where a test wants it to stop."""

    def __init__(
        self,
        *,
        rcpt: Callable[[str], str] = lambda address: "250 2.1.5 ok",
        dot: Callable[[Transaction], str | None] = lambda transaction: "250 2.0.0 taken",
        extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE 0", "SMTPUTF8"),
        body_pause: int | None = None,
    ) -> None:
        """`dot` returning None closes the connection. `body_pause`: octets of a body after which `body_gate` is asked."""
        self.rcpt = rcpt
        self.dot = dot
        self.extensions = extensions
        self.body_pause = body_pause
        self.body_gate = asyncio.Event()
        self.body_paused = asyncio.Event()
        self.dot_gate = asyncio.Event()
        self.dot_gate.set()
        self.dot_seen = asyncio.Event()
        self.greeting_gate = asyncio.Event()
        self.greeting_gate.set()
        self.connected = asyncio.Event()
        self.mails: list[Mail] = []
        self.transactions: list[Transaction] = []
        self.connections = 0
        self.port = 0
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}?tls=none"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the server has seen makes the condition true."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.connected.set()
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._session(reader, writer)
        except asyncio.CancelledError:
            pass  # the test has ended
        finally:
            self._tasks.discard(task)
            for transaction in self.transactions:
                transaction.ended.set()
            await self._tell()
            writer.close()

    async def _session(  # noqa: C901 - a dialogue reads best in one piece
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        def say(*lines: str) -> None:
            writer.write("".join(f"{line}\r\n" for line in lines).encode())

        await self.greeting_gate.wait()
        say("220 test ESMTP")
        transaction: Transaction | None = None
        while True:
            line = (await reader.readuntil(b"\r\n"))[:-2].decode()
            verb = line[:4].upper()
            if verb in ("EHLO", "HELO"):
                say("250-test", *(f"250-{name}" for name in self.extensions), "250 ENHANCEDSTATUSCODES")
            elif verb == "MAIL":
                transaction = Transaction(line[10:].split(">")[0].lstrip("<"))
                self.transactions.append(transaction)
                say("250 2.1.0 ok")
            elif verb == "RCPT" and transaction is not None:
                address = line[8:].split(">")[0].lstrip("<")
                reply = self.rcpt(address)
                if reply.startswith("2"):
                    transaction.recipients.append(address)
                say(reply)
            elif verb == "DATA" and transaction is not None:
                if not transaction.recipients:
                    say("554 5.5.1 no valid recipients")
                    continue
                say("354 go on")
                content = await self._body(reader, transaction)
                self.dot_seen.set()
                await self._tell()
                await self.dot_gate.wait()
                reply_to_dot = self.dot(transaction)
                if reply_to_dot is None:
                    return
                if reply_to_dot.startswith("2"):
                    self.mails.append(Mail(transaction.sender, transaction.recipients, content))
                say(reply_to_dot)
                transaction.ended.set()
                await self._tell()
            elif verb in ("RSET", "NOOP"):
                say("250 2.0.0 ok")
            elif verb == "QUIT":
                say("221 2.0.0 bye")
                return
            else:
                say("502 5.5.1 what?")

    async def _body(self, reader: asyncio.StreamReader, transaction: Transaction) -> bytes:
        content = bytearray()
        while True:
            line = await reader.readuntil(b"\r\n")
            transaction.body_read += len(line)
            if line == b".\r\n":
                transaction.dot = True
                return bytes(content)
            content += line[1:] if line.startswith(b".") else line
            if self.body_pause is not None and transaction.body_read >= self.body_pause and not self.body_gate.is_set():
                self.body_paused.set()
                await self._tell()
                await self.body_gate.wait()
