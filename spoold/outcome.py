"""What became of one recipient in one delivery: values, not exceptions. Unknown means temporary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """What the messaging system answered (RFC 5321 4.2), or what we say in its place.

    `code` is the three-digit reply code, None for a reason of our own; `enhanced` the status code of RFC 3463
    ("4.4.1"); `text` the rest, in one line.
    """

    code: int | None
    enhanced: str | None
    text: str

    @classmethod
    def local(cls, enhanced: str, text: str) -> Reply:
        """A reason that no server gave: a refused connection, a name that does not resolve."""
        return cls(None, enhanced, text)

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.code, self.enhanced, self.text) if part)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The messaging system took responsibility. Only after `lock()`."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. `retry_after`: seconds the other side asked for, None for the spooler's own back-off.

    `destination_down`: nobody at this destination can be reached at the moment; the spooler lets the rest of its
    mail wait too, instead of finding it out message by message.
    """

    reply: Reply
    retry_after: float | None = None
    destination_down: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Never. A permanent failure for this recipient."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class NotMine:
    """This transport does not serve the recipient; the next one in the route shall try."""

    reason: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The lock was taken, the final step begun, and nothing intelligible came back."""

    reason: str


Outcome = Accepted | Deferred | Rejected | NotMine | InDoubt
