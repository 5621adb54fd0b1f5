"""What a transport is handed: one message, one destination, its recipients, the content, and the lock."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

from spoold.errors import CorruptData
from spoold.message import MAX_HEADER, header_end, without_bcc
from spoold.provider import Recipient, Withdrawn
from spoold.spooler.ledger import Ledger
from spoold.spooler.router import Choice
from spoold.store.spooling import Claimed

ReadChunk = Callable[[int, int], Awaitable[bytes | None]]  # (message, seq) -> a piece of content; None past its end


class Delivery:
    """See provider.Delivery. `claims` are recipients of one message, claimed under one token."""

    __slots__ = (
        "_ledger", "_read", "_scope", "choice", "claims", "locked", "recipients", "token", "withdrawn",
    )  # fmt: skip

    def __init__(self, claims: Sequence[Claimed], token: int, choice: Choice, ledger: Ledger, read: ReadChunk) -> None:
        self.claims = claims
        self.token = token
        self.choice = choice
        self.recipients = tuple(Recipient(claim.id, claim.address, claim.address_type) for claim in claims)
        self.locked: frozenset[int] = frozenset()
        self.withdrawn = False
        self._ledger = ledger
        self._read = read
        self._scope: asyncio.Timeout | None = None

    @property
    def entry_id(self) -> str:
        """The message's entry id."""
        return self.claims[0].entry_id

    @property
    def sender(self) -> str:
        """The reverse-path."""
        return self.claims[0].sender

    @property
    def destination(self) -> str:
        """What shares connections, limits and back-off."""
        return self.choice.destination

    @property
    def size(self) -> int:
        """Octets of the content as stored."""
        return self.claims[0].size

    @property
    def eight_bit(self) -> bool:
        """The content has octets above 127."""
        return bool(self.claims[0].eight_bit)

    @property
    def utf8(self) -> bool:
        """The envelope needs SMTPUTF8."""
        return bool(self.claims[0].utf8)

    async def content(self) -> AsyncIterator[bytes]:
        """The message in chunks, without Bcc. Raises CorruptData before the last chunk if it is not what was submitted."""
        message, digest, length = self.claims[0], hashlib.sha256(), 0
        head: bytes | None = b""  # until the header has ended
        pending = b""
        async for chunk in self._stored():
            if pending:
                yield pending
            digest.update(chunk)
            length += len(chunk)
            if head is None:
                pending = chunk
                continue
            head += chunk
            end = header_end(head)
            if end is None and length < message.size:
                if len(head) > MAX_HEADER:
                    raise CorruptData(f"the header has more than {MAX_HEADER} octets")
                continue
            pending = without_bcc(head[:end]) + (b"" if end is None else head[end:])
            head = None
        if length != message.size or (message.digest is not None and digest.digest() != message.digest):
            raise CorruptData("the stored content is not what was submitted")
        yield pending

    async def _stored(self) -> AsyncIterator[bytes]:
        message = self.claims[0]
        if message.content is not None:
            yield message.content
            return
        seq = 0
        while (chunk := await self._read(message.message_id, seq)) is not None:
            yield chunk
            seq += 1

    async def lock(self, recipients: Collection[Recipient]) -> None:
        """See provider.Delivery: all of them durably, or Withdrawn and none."""
        refused = await self._ledger.lock(self.token, [recipient.id for recipient in recipients])
        if refused:
            raise Withdrawn([recipient for recipient in recipients if recipient.id in set(refused)])
        self.locked |= {recipient.id for recipient in recipients}

    def scope(self) -> asyncio.Timeout:
        """What the attempt runs in; `break_off` ends it."""
        self._scope = asyncio.timeout(None)
        return self._scope

    def break_off(self) -> None:
        """A recipient was withdrawn: end the attempt early. What is locked goes on to its end."""
        self.withdrawn = True
        if self._scope is not None and not self.locked and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())
