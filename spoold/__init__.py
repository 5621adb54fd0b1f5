"""spoold: a store-and-forward spooler for outgoing mail, with an abort that tells the truth.

    from spoold import Spool

    with Spool("queue.db") as spool:
        entry_id = spool.submit(message)

Names are loaded when they are used: importing spoold, and submitting with Spool, costs no event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spoold.client.aspool import AsyncSpool
    from spoold.client.spool import Spool
    from spoold.client.submitting import Message
    from spoold.errors import (
        AbortError,
        AbortResult,
        CannotCreate,
        ConfigurationError,
        CorruptData,
        KeyReused,
        NoAccess,
        NoRecipients,
        NotFound,
        NotInQueue,
        ObjectDeleted,
        QueueBusy,
        QueueDamaged,
        QueueError,
        QueueFull,
        QueueMissing,
        QueueUnusable,
        SpoolError,
        Submitted,
        TooBig,
        UnableToAbort,
        Unavailable,
        UnknownSchema,
        UsageError,
        WaitTimeout,
    )
    from spoold.message import Addressee, MessageFlags, SubmitFlags
    from spoold.outcome import Reply
    from spoold.store.records import (
        EventRecord,
        ListedMessage,
        MessageRecord,
        QueueStatus,
        RecipientRecord,
        SpoolerRecord,
        TransportRecord,
    )

__all__ = [
    "AbortError", "AbortResult", "Addressee", "AsyncSpool", "CannotCreate", "ConfigurationError", "CorruptData",
    "EventRecord", "KeyReused", "ListedMessage", "Message", "MessageFlags", "MessageRecord", "NoAccess", "NoRecipients",
    "NotFound", "NotInQueue", "ObjectDeleted", "QueueBusy", "QueueDamaged", "QueueError", "QueueFull", "QueueMissing",
    "QueueStatus", "QueueUnusable", "RecipientRecord", "Reply", "Spool", "SpoolError", "SpoolerRecord", "SubmitFlags",
    "Submitted", "TooBig", "TransportRecord", "UnableToAbort", "Unavailable", "UnknownSchema", "UsageError",
    "WaitTimeout",
]  # fmt: skip

_ELSEWHERE = {
    "AsyncSpool": "spoold.client.aspool",
    "Spool": "spoold.client.spool",
    "Message": "spoold.client.submitting",
    "Addressee": "spoold.message",
    "MessageFlags": "spoold.message",
    "SubmitFlags": "spoold.message",
    "Reply": "spoold.outcome",
    "QueueStatus": "spoold.store.records",
    **{f"{what}Record": "spoold.store.records" for what in ("Event", "Message", "Recipient", "Spooler", "Transport")},
    "ListedMessage": "spoold.store.records",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_ELSEWHERE.get(name, "spoold.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
