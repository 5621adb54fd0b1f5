"""Every error that spoold raises, in one tree.

    SpoolError
    |-- CorruptData           MAPI_E_CORRUPT_DATA        65  the message cannot be read or sent as it is
    |   `-- TooBig            MAPI_E_TOO_BIG             65  larger than the queue or the protocol allows
    |-- NoRecipients          MAPI_E_NO_RECIPIENTS       65  nobody to send to
    |-- Submitted             MAPI_E_SUBMITTED           65  the message is in the queue: read-only
    |-- KeyReused             MAPI_E_COLLISION           65  the idempotency key belongs to another content
    |-- NotFound              MAPI_E_NOT_FOUND           66  no message has this entry id
    |-- AbortError
    |   |-- NotInQueue        MAPI_E_NOT_IN_QUEUE         3  nothing left to withdraw
    |   `-- UnableToAbort     MAPI_E_UNABLE_TO_ABORT      4  what is left is locked or in doubt
    |-- ObjectDeleted         MAPI_E_OBJECT_DELETED      64  a handle used after submit
    |-- WaitTimeout           MAPI_E_TIMEOUT             75  the message was not settled in time
    |-- QueueError
    |   |-- QueueMissing      MAPI_E_NOT_INITIALIZED     69  no queue at this place
    |   |-- QueueUnusable     MAPI_E_DISK_ERROR          69  the queue's file or place cannot be worked with
    |   |   `-- QueueDamaged  MAPI_E_CORRUPT_STORE       69  the database file or its schema was damaged or altered
    |   |-- UnknownSchema     MAPI_E_VERSION             69  the queue was made for another version of spoold
    |   |-- CannotCreate      MAPI_E_CANNOT_CREATE       73  the queue cannot be created there
    |   |-- NoAccess          MAPI_E_NO_ACCESS           77  no permission on the queue's files
    |   |-- QueueBusy         MAPI_E_BUSY                75  another process holds the queue's write lock
    |   `-- QueueFull         MAPI_E_NOT_ENOUGH_DISK     75  the disk or the queue's allowance is full
    |-- Unavailable           MAPI_E_FAILONEPROVIDER     69  a transport could not be reached or validated
    |-- UsageError            MAPI_E_INVALID_PARAMETER   64  an argument that cannot be used
    `-- ConfigurationError    MAPI_E_UNCONFIGURED        78  a setting is missing, unknown or wrong

`code` is MAPI's name for the error, `exit_code` what a command exits with (sysexits.h where it has a number for it).
The text of an error is one sentence that names the value and the way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class SpoolError(Exception):
    """The root of what spoold raises. `code` and `exit_code` belong to the class."""

    code: ClassVar[str] = "MAPI_E_CALL_FAILED"
    exit_code: ClassVar[int] = 1


class CorruptData(SpoolError):
    """The message cannot be read, or cannot be sent as it is."""

    code = "MAPI_E_CORRUPT_DATA"
    exit_code = 65


class TooBig(CorruptData):
    """The message, or its list of recipients, is larger than allowed."""

    code = "MAPI_E_TOO_BIG"


class NoRecipients(SpoolError):
    """The message names nobody to send to."""

    code = "MAPI_E_NO_RECIPIENTS"
    exit_code = 65


class Submitted(SpoolError):
    """The message is in the outgoing queue, or was: it cannot be changed or submitted again."""

    code = "MAPI_E_SUBMITTED"
    exit_code = 65


class KeyReused(SpoolError):
    """The idempotency key was used before, for another content."""

    code = "MAPI_E_COLLISION"
    exit_code = 65


class NotFound(SpoolError):
    """No message has this entry id."""

    code = "MAPI_E_NOT_FOUND"
    exit_code = 66


@dataclass(frozen=True, slots=True)
class AbortResult:
    """What an abort found, recipient by recipient: tuples of addresses, in the message's order.

    `aborted`: withdrawn; no server ever said yes to them, and none ever will.
    `sent`: a transport had accepted them.  `locked`: past the point of no return at this moment; the wish is kept.
    `in_doubt`: no further attempts, but a server may have said yes before.
    """

    aborted: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()

    @property
    def partial(self) -> bool:
        """Something was withdrawn, but not everything (MAPI_W_PARTIAL_COMPLETION)."""
        return bool(self.aborted and (self.sent or self.locked or self.in_doubt))


class AbortError(SpoolError):
    """An abort that withdrew nothing; `result` says what there was instead."""

    def __init__(self, text: str, result: AbortResult, state: str) -> None:
        super().__init__(text)
        self.result = result
        self.state = state


class NotInQueue(AbortError):
    """Nothing is left to withdraw: every recipient is settled. `state` is the message's state."""

    code = "MAPI_E_NOT_IN_QUEUE"
    exit_code = 3


class UnableToAbort(AbortError):
    """Nothing was withdrawn: all that is left is locked or in doubt."""

    code = "MAPI_E_UNABLE_TO_ABORT"
    exit_code = 4


class ObjectDeleted(SpoolError):
    """A draft's handle was used after the draft had been submitted."""

    code = "MAPI_E_OBJECT_DELETED"
    exit_code = 64


class WaitTimeout(SpoolError):
    """The message was not settled within the time given."""

    code = "MAPI_E_TIMEOUT"
    exit_code = 75


class QueueError(SpoolError):
    """The queue itself cannot be used."""

    exit_code = 69


class QueueMissing(QueueError):
    """There is no queue at this place. Only `spoold migrate` and `spoold run` create one."""

    code = "MAPI_E_NOT_INITIALIZED"


class QueueUnusable(QueueError):
    """The queue's place or file cannot be worked with: an I/O error, a read-only or network file system."""

    code = "MAPI_E_DISK_ERROR"


class QueueDamaged(QueueUnusable):
    """The database file is damaged, or its spoold_ objects are not what the migrations made."""

    code = "MAPI_E_CORRUPT_STORE"


class UnknownSchema(QueueError):
    """The queue's schema is one that this version of spoold does not know, or no longer serves."""

    code = "MAPI_E_VERSION"


class CannotCreate(QueueError):
    """The queue cannot be created at this place."""

    code = "MAPI_E_CANNOT_CREATE"
    exit_code = 73


class NoAccess(QueueError):
    """The permissions of the queue's files or directory do not allow this."""

    code = "MAPI_E_NO_ACCESS"
    exit_code = 77


class QueueBusy(QueueError):
    """Another process held the queue's write lock for longer than the busy timeout."""

    code = "MAPI_E_BUSY"
    exit_code = 75


class QueueFull(QueueError):
    """The disk, or the queue's own allowance, is full. Nothing was stored."""

    code = "MAPI_E_NOT_ENOUGH_DISK"
    exit_code = 75


class Unavailable(SpoolError):
    """A transport could not be reached or validated."""

    code = "MAPI_E_FAILONEPROVIDER"
    exit_code = 69


class UsageError(SpoolError):
    """An argument that cannot be used."""

    code = "MAPI_E_INVALID_PARAMETER"
    exit_code = 64


class ConfigurationError(SpoolError):
    """A setting is missing, unknown or wrong. The text names the key."""

    code = "MAPI_E_UNCONFIGURED"
    exit_code = 78
