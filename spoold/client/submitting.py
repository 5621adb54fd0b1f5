"""A message as an application hands it over, with what it says about it, made a Submission that can be stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from email.message import Message as EmailMessage
from typing import Protocol, TypedDict

from spoold.client.moment import When, milliseconds
from spoold.errors import UsageError
from spoold.message import Addressee, Submission, prepare


class BinaryFile(Protocol):
    """Anything that is read for octets."""

    def read(self) -> bytes:
        """Everything up to its end."""


Content = EmailMessage | bytes | bytearray | memoryview | BinaryFile
Recipients = str | Addressee | Iterable[str | Addressee]


class SubmitOptions(TypedDict, total=False):
    """The keywords of `submit`; see Message for what they mean."""

    sender: str | None
    recipients: Recipients | None
    send_at: When | None
    expires: When | None
    priority: str
    key: str | None
    hold: bool
    sent_folder: str | None
    delete_after_submit: bool
    entry_id: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """A message for `submit_many`, with the same keywords as `submit` has.

    `content`: an email.message.EmailMessage, octets, or a binary file, in the form of RFC 5322.
    `sender`: the reverse-path; else Sender, else the first From. Empty: the null reverse-path.
    `recipients`: addresses or Addressees; else To, Cc and Bcc.
    `send_at`, `expires`: an aware datetime, a naive one (local time), a timedelta from now, seconds since 1970 UTC,
    ISO 8601 text, or text like "+10m".  `priority`: "high", "normal" or "low".
    `key`: an idempotency key; the same key again yields the first entry id and stores nothing.
    `hold`: stored, but not sent before `release`.  `sent_folder`: where it is filed afterwards.
    `delete_after_submit`: gone as soon as everybody has it.  `entry_id`: 32 hexadecimal digits, else a new one.
    """

    content: Content
    _: KW_ONLY
    sender: str | None = None
    recipients: Recipients | None = None
    send_at: When | None = None
    expires: When | None = None
    priority: str = "normal"
    key: str | None = None
    hold: bool = False
    sent_folder: str | None = None
    delete_after_submit: bool = False
    entry_id: str | None = None


def prepared(message: Message, now: int) -> Submission:
    """Check a message. Raises CorruptData, TooBig, NoRecipients, UsageError."""
    for name in ("sender", "key", "sent_folder", "entry_id"):
        value = getattr(message, name)
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{name} must be text, not {type(value).__name__}")
    send_at = milliseconds(message.send_at, now, "send_at")
    expires = milliseconds(message.expires, now, "expires")
    if expires is not None and expires <= max(now, send_at or 0):
        raise UsageError(
            f"expires {message.expires!s:.80} is in the past, or not after send_at: it could never be sent"
        )
    return prepare(
        message.content,
        sender=message.sender,
        recipients=_recipients(message.recipients),
        entry_id=message.entry_id,
        priority=message.priority,
        send_at=send_at,
        expires=expires,
        key=message.key,
        hold=bool(message.hold),
        sent_folder=message.sent_folder,
        delete_after_submit=bool(message.delete_after_submit),
    )


def _recipients(given: Recipients | None) -> list[str | Addressee] | None:
    if given is None:
        return None
    recipients = [given] if isinstance(given, str | Addressee) else list(given)
    for recipient in recipients:
        if not isinstance(recipient, str | Addressee):
            raise UsageError(f"a recipient must be an address or an Addressee, not {type(recipient).__name__}")
    return recipients
