"""Checks what was placed by SQL as the library checks what it submits, and sets MSGFLAG_SUBMIT.

A message that cannot be sent fails alone, with the reason in its timeline. The check is a claim: its result counts
only if nobody has aborted the message meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from spoold import eventlog
from spoold.clock import Clock
from spoold.errors import CorruptData, NoRecipients, SpoolError, TooBig
from spoold.faults import NO_FAULTS, Faults, Point
from spoold.message import (
    MAX_HEADER,
    MAX_RECIPIENTS,
    Addressee,
    check_envelope,
    header_end,
    needs_utf8,
    read_header,
    subject_of,
)
from spoold.provider import Reply
from spoold.spooler.delivery import ReadChunk
from spoold.spooler.ledger import Ledger
from spoold.store import spooling
from spoold.store.session import Session
from spoold.store.spooling import Checked, Unchecked

AT_ONCE = 100  # messages checked between two commits


class Intake:
    """One task that checks in order of submission. `passed` is called when messages may be claimed."""

    def __init__(
        self,
        ledger: Ledger,
        reader: Session,
        read: ReadChunk,
        clock: Clock,
        max_message_size: int,
        *,
        passed: Callable[[], None],
        faults: Faults = NO_FAULTS,
    ) -> None:
        """`max_message_size` in octets."""
        self._ledger = ledger
        self._reader = reader
        self._read = read
        self._clock = clock
        self._max_message_size = max_message_size
        self._passed = passed
        self._faults = faults
        self._wake = asyncio.Event()
        self.token = 0
        self.busy = False
        self.stopped = False

    def wake(self) -> None:
        """Something may have been placed."""
        self.busy = True
        self._wake.set()

    async def run(self) -> None:
        """Check what is unchecked, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while not self.stopped and await self._some():
                pass
            if not self._wake.is_set():
                self.busy = False
                self._passed()

    async def _some(self) -> int:
        token = self.token
        taken = await self._ledger.write(lambda session: spooling.take_unchecked(session, token, AT_ONCE))
        if not taken:
            return 0
        self._faults.reach(Point.CHECK_COMMITTED)
        checked = [await self._check(message) for message in taken]
        now = self._clock.now()
        await self._ledger.write(lambda session: spooling.finish_check(session, token, checked, now))
        self._passed()
        return len(taken)

    async def _check(self, message: Unchecked) -> Checked:
        try:
            return await self._read_through(message)
        except SpoolError as error:
            status = "5.1.3" if isinstance(error, NoRecipients) else "5.3.4" if isinstance(error, TooBig) else "5.6.0"
            return self._refused(message, status, str(error))
        except (ValueError, LookupError, RecursionError) as error:  # what hostile content may get a parser to raise
            return self._refused(message, "5.6.0", f"the message cannot be read: {type(error).__name__}")

    def _refused(self, message: Unchecked, status: str, reason: str) -> Checked:
        eventlog.message_refused(entry_id=message.entry_id, reason=reason)
        return Checked(message, refusal=Reply.local(status, reason))

    async def _read_through(self, message: Unchecked) -> Checked:
        if message.size > self._max_message_size:
            raise TooBig(f"the message has {message.size} octets; max_message_size is {self._max_message_size}")
        rows = await self._reader.rows(spooling.SQL.unchecked_recipients, (message.id, MAX_RECIPIENTS + 1))
        recipients = [Addressee(address, kind, address_type) for _, kind, address, address_type in rows]
        check_envelope(message.sender, recipients)
        digest, length, seq, eight_bit = hashlib.sha256(), 0, 0, False
        head = b""
        while (chunk := await self._read(message.id, seq)) is not None:
            digest.update(chunk)
            length += len(chunk)
            seq += 1
            eight_bit = eight_bit or not chunk.isascii()
            if len(head) <= MAX_HEADER and header_end(head) is None:
                head += chunk
        if length != message.size:
            raise CorruptData(f"the stored content has {length} octets, not {message.size}")
        return Checked(
            message,
            subject=subject_of(read_header(head)),
            digest=digest.digest(),
            eight_bit=eight_bit,
            utf8=needs_utf8(message.sender, (recipient.address for recipient in recipients)),
        )
