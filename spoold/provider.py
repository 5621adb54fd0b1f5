"""All that a transport provider imports: the contract between spoold and a messaging system (MAPI's IXPLogon).

A provider is a class, registered as an entry point in the group `spoold.transports` under the `type` that the
configuration names. `Options` is its pydantic model of the keys below `[transports.NAME]` (unknown keys are refused);
the class is called with the transport's name and the validated options.

The rule that everything rests on: `await delivery.lock(recipients)` comes immediately before the irreversible step, for
exactly the recipients that the messaging system will serve with it. It locks all of them, or raises `Withdrawn` and
locks none: then break off so that nobody gets the message, and let the exception go up; the spooler starts again at
once with those who remain. Whoever is missing from the result, and everybody after any other exception, counts as
Deferred before the lock and InDoubt after it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from spoold.outcome import Accepted, Deferred, InDoubt, NotMine, Outcome, Rejected, Reply

__all__ = [
    "ANY", "Accepted", "Deferred", "Delivery", "InDoubt", "NotMine", "Outcome", "Recipient", "Rejected", "Reply",
    "Status", "Transport", "TransportFault", "Withdrawn",
]  # fmt: skip

ANY = frozenset({"*"})  # serves every address type


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a delivery. `id` is the queue's own number for it."""

    id: int
    address: str
    address_type: str = "SMTP"


class Withdrawn(Exception):
    """An abort came first: nobody is locked. `recipients` are those who may no longer be served."""

    def __init__(self, recipients: Collection[Recipient]) -> None:
        super().__init__(f"withdrawn before the lock: {', '.join(r.address for r in recipients)}")
        self.recipients = tuple(recipients)


class TransportFault(Exception):
    """The provider cannot work at all (wrong password, missing file): suspend it until `validate()` is well again."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `validate()` found. `reason` is one line for the operator."""

    ok: bool
    reason: str = ""


class Delivery(Protocol):
    """One attempt: one message, one destination, one or more recipients.

    `sender` is the reverse-path without angle brackets, empty for the null reverse-path. `size` counts the octets of
    the content as stored. `eight_bit`: the content has octets above 127. `utf8`: a header or address needs SMTPUTF8.
    """

    @property
    def entry_id(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def recipients(self) -> tuple[Recipient, ...]: ...
    @property
    def destination(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def eight_bit(self) -> bool: ...
    @property
    def utf8(self) -> bool: ...

    def content(self) -> AsyncIterator[bytes]:
        """The message in chunks of at most 256 KiB, without Bcc; line endings as stored. May be called again."""
        ...

    async def lock(self, recipients: Collection[Recipient]) -> None:
        """The point of no return (SetLockState). Returns when all are durably locked, else raises Withdrawn."""
        ...


class Transport(Protocol):
    """A transport provider. One instance for each `[transports.NAME]`; `deliver` runs many times at once."""

    Options: ClassVar[type[Any]]
    address_types: frozenset[str]

    def __init__(self, name: str, options: Any) -> None: ...

    async def logon(self) -> None:
        """Open what is needed (TransportLogon). Raises TransportFault; does not wait for a network."""

    def destination(self, recipient: str) -> str:
        """What shares connections, limits and back-off with this address: a relay, an MX domain. No I/O."""

    async def deliver(self, delivery: Delivery) -> Mapping[Recipient, Outcome]:
        """Hand the message over; an outcome for each recipient. Raises Withdrawn, TransportFault."""

    async def validate(self) -> Status:
        """Probe the messaging system without sending (ValidateState)."""

    async def logoff(self) -> None:
        """Close everything; called when nothing is in flight."""
