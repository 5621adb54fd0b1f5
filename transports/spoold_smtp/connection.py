"""An open SMTP session as the mail transaction uses it: commands out, replies in, flow control, time limits.

`Connection` takes the asyncio transport over from whoever opened the session (`transport.set_protocol()`) and belongs
to one task at a time. It knows how many replies have been asked for; everything else that arrives breaks it. A broken
connection is aborted at once, with a TCP reset: the server must not see what it might take for an orderly end.

    opened --ask/answers--> in use <--park/unpark--> parked
       any of them --quit--> quitting --> lost
       any of them --break_off--> broken --> lost

There is one waiter and one timer. The timer is not moved at every step: it looks at the deadline when it fires and
sleeps on if that lies ahead, so that a step costs the reading of a clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from spoold.provider import Reply
from spoold_smtp.reply import ReplyReader, WireReply, reply_from

HIGH_WATER = 128 * 1024  # octets of a message that wait for the network, for each connection
QUIT_SECONDS = 2
SERVICE_CLOSING = 421  # RFC 5321 3.8: may come at any time
_CUT = Reply.local("4.4.2", "cut off by this side")
_UNASKED = Reply.local("4.5.0", "the server spoke unasked")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the server offered in its reply to EHLO.

    `size` is its limit in octets (RFC 1870), 0 if it named none, None if it did not offer SIZE.
    """

    pipelining: bool = False
    size: int | None = None
    eight_bit_mime: bool = False
    smtputf8: bool = False


class Connection(asyncio.Protocol):
    """One session with `peer` ("host:port") after EHLO, TLS and AUTH.

    `broken` is None while all is well, then the reason: the server's own words if it said 421 or refused unasked.
    `gone` is True if it was the server that ended the session, by 421 or by closing the connection. `unasked` is the
    reply that nothing had asked for, if one came.
    """

    __slots__ = (
        "_asked", "_awaited", "_deadline", "_loop", "_on_lost", "_parked", "_paused", "_quitting", "_reader",
        "_seconds", "_timer", "_timer_at", "_transport", "_waiter", "broken", "extensions", "gone", "lost", "opened_at",
        "peer", "transactions", "unasked",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        peer: str,
        extensions: Extensions,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.peer = peer
        self.extensions = extensions
        self.broken: Reply | None = None
        self.gone = False
        self.unasked: WireReply | None = None
        self.lost = False
        self.transactions = 0
        self.opened_at = loop.time()
        self._transport = transport
        self._loop = loop
        self._reader = ReplyReader()
        self._asked = 0
        self._awaited = ""
        self._waiter: asyncio.Future[None] | None = None
        self._on_lost: Callable[[Connection], None] | None = None
        self._paused = self._parked = self._quitting = False
        self._deadline = self._timer_at = self._seconds = inf
        self._timer: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(high=HIGH_WATER)
        transport.set_protocol(self)

    # What a transaction does

    def ask(self, commands: bytes, replies: int, seconds: float, awaited: str) -> None:
        """Write `commands`, which call for so many `replies`, each within `seconds` of the one before.

        `awaited` names them in the reason if they do not come.
        """
        if self._reader.pending:
            self.break_off(_UNASKED)
        if self.broken is None:
            self._asked = replies
            self._awaited = awaited
            self._seconds = seconds
            self._limit(seconds)
            self._transport.write(commands)

    async def answers(self) -> list[WireReply]:
        """The replies that the last `ask()` called for; fewer only if the connection is broken."""
        reader = self._reader
        while len(reader.replies) < self._asked and not self.broken:
            await self._new_waiter()
        replies, reader.replies = reader.replies, []
        self._asked = 0
        self._deadline = inf
        return replies

    async def send(self, data: bytes, seconds: float) -> None:
        """Write a block of the data and wait until the network has taken enough for another, at most `seconds`.

        Does nothing once the connection is broken: look at `broken`.
        """
        if data and self.broken is None:
            self._transport.write(data)
            if self._paused:
                await self._drain(seconds)

    @property
    def sound(self) -> bool:
        """True if nothing is wrong: alive, every reply was asked for and has been read."""
        reader = self._reader
        return not (self.broken or reader.pending or reader.replies or self._transport.is_closing())

    def check(self) -> bool:
        """True if `sound`; else the connection is broken off."""
        if self.sound:
            return True
        self.break_off(self._loss() if self._transport.is_closing() else _UNASKED)
        return False

    def break_off(self, why: Reply) -> None:
        """Abort the connection; it is of no more use. The first reason is kept."""
        if self.broken is None:
            self.broken = why
            self._reset()
        self._wake()

    # What a pool does

    def on_lost(self, callback: Callable[[Connection], None]) -> None:
        """Have `callback` called once the connection is gone."""
        self._on_lost = callback

    def park(self, seconds: float) -> None:
        """Keep the session idle; say QUIT after `seconds`. Whatever the server says in the meantime breaks it."""
        self._parked = True
        self._awaited = "nothing"
        self._limit(seconds)

    def unpark(self) -> bool:
        """Take an idle session into use again. False if it is of no use any more."""
        if self._quitting or not self.check():
            return False
        self._parked = False
        self._deadline = inf
        return True

    def quit(self) -> None:
        """Say QUIT and close; the server has two seconds to say 221, then the connection is cut (RFC 5321 4.1.1.10)."""
        if self._quitting or self.lost:
            return
        self._parked = False
        if not self.check():
            return
        self._quitting = True
        self._limit(QUIT_SECONDS)
        self._transport.write(b"QUIT\r\n")

    def cut(self) -> None:
        """End the session at once unless it is ending already."""
        if not self._quitting:
            self.break_off(_CUT)

    # What asyncio calls

    def data_received(self, data: bytes) -> None:
        if self.broken:
            return
        if self._quitting:
            self._transport.close()  # 221 or not: all that was to be said has been said
            return
        reader = self._reader
        replies = reader.replies
        before = len(replies)
        reader.feed(data)
        count = len(replies)
        if reader.fault:
            self.break_off(Reply.local("4.5.0", f"protocol error: {reader.fault}"))
        elif count > self._asked:
            self.unasked = replies[self._asked]
            self._refused_unasked(reply_from(*self.unasked))
        elif self._parked:
            self.break_off(_UNASKED)
        elif count:
            for reply in replies:
                if reply.code == SERVICE_CLOSING:
                    self.gone = True
                    self.break_off(reply_from(*reply))
                    return
            if count == self._asked:
                self._deadline = inf
                self._wake()
            elif count > before:
                self._limit(self._seconds)
        if self.broken:
            del replies[self._asked :]

    def eof_received(self) -> bool:
        if not self._quitting:
            self.gone = True
            self.break_off(self._loss())  # closing in order would first wait for our data to go out
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.broken is None:
            self.gone = True
            self.broken = self._loss(exc)
        self._wake()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._on_lost is not None:
            self._on_lost(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    # Inside

    def _wake(self) -> None:
        """Let the waiter look again; it knows itself what it waits for."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _drain(self, seconds: float) -> None:
        self._awaited = "the server to take the data"
        self._limit(seconds)
        while self._paused and self.broken is None:
            await self._new_waiter()
        self._deadline = inf

    def _new_waiter(self) -> asyncio.Future[None]:
        self._waiter = self._loop.create_future()
        return self._waiter

    def _limit(self, seconds: float) -> None:
        """Let the deadline be `seconds` from now."""
        self._deadline = deadline = self._loop.time() + seconds
        if deadline < self._timer_at or self._timer is None:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer(deadline)

    def _set_timer(self, when: float) -> None:
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline == inf:
            return
        if self._loop.time() < self._deadline:
            self._set_timer(self._deadline)
        elif self._parked:
            self.quit()
        elif self._quitting:
            self._reset()
        else:
            self.break_off(Reply.local("4.4.2", f"timed out waiting for {self._awaited}"))

    def _refused_unasked(self, reply: Reply) -> None:
        if reply.code is not None and 400 <= reply.code < 500:
            self.gone = reply.code == SERVICE_CLOSING
            self.break_off(reply)
        else:
            self.break_off(Reply.local("4.5.0", f"a reply that was not asked for: {reply}"))

    def _loss(self, exc: Exception | None = None) -> Reply:
        waiting = f" while waiting for {self._awaited}" if self._waiter is not None and not self._waiter.done() else ""
        detail = f": {exc.strerror or exc}" if isinstance(exc, OSError) else ""
        return Reply.local("4.4.2", f"connection to {self.peer} lost{waiting}{detail}")

    def _reset(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # the socket may be gone already
            sock: socket.socket = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
