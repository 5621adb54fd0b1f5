"""A message as the submitter hands it over: envelope, content, what the header says of itself. Pure.

Addresses follow RFC 5321 4.1.2 with RFC 6531's UTF-8; headers are read with a line ending of CR, LF or CRLF, since
content is stored as it came and every one of them becomes CRLF on the wire.
"""

from __future__ import annotations

import email.header
import email.policy
import inspect
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.errors import MessageError
from email.message import Message as EmailMessage
from email.utils import getaddresses
from enum import IntEnum, IntFlag
from typing import Any

from spoold.errors import CorruptData, NoRecipients, TooBig

CHUNK = 256 * 1024
MAX_RECIPIENTS = 5000  # one message; more belongs to several, or to a list's own server
MAX_HEADER = 1024 * 1024  # octets of header that are read; a larger one is refused


class MessageFlags(IntFlag):
    """PR_MESSAGE_FLAGS, with MAPI's own numbers."""

    READ = 0x1
    UNMODIFIED = 0x2
    SUBMIT = 0x4
    UNSENT = 0x8
    HASATTACH = 0x10
    FROMME = 0x20
    RESEND = 0x80


class SubmitFlags(IntFlag):
    """PR_SUBMIT_FLAGS."""

    LOCKED = 0x1
    PREPROCESS = 0x2


class Priority(IntEnum):
    """PR_PRIORITY."""

    LOW = -1
    NORMAL = 0
    HIGH = 1

    @classmethod
    def of(cls, value: str | int) -> Priority:
        """From 'high', 'normal', 'low' or MAPI's number."""
        try:
            return cls[value.upper()] if isinstance(value, str) else cls(value)
        except (KeyError, ValueError):
            raise CorruptData(f"priority {value!r} is not one of high, normal, low") from None


@dataclass(frozen=True, slots=True)
class Addressee:
    """One recipient as the submitter names it. `kind` is to, cc or bcc."""

    address: str
    kind: str = "to"
    address_type: str = "SMTP"


@dataclass(frozen=True, slots=True)
class Submission:
    """A message that has been checked and can be stored: everything that `submit` writes.

    Times are milliseconds since 1970 UTC; `expires` and `send_at` None for none.
    """

    entry_id: str
    sender: str
    recipients: tuple[Addressee, ...]
    content: bytes
    subject: str
    eight_bit: bool
    priority: Priority = Priority.NORMAL
    send_at: int | None = None
    expires: int | None = None
    key: str | None = None
    hold: bool = False
    sent_folder: str | None = None
    delete_after_submit: bool = False
    utf8: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "utf8", needs_utf8(self.sender, (r.address for r in self.recipients)))


_ENTRY_ID = re.compile(r"[0-9A-Fa-f]{32}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, and what no UTF-8 can hold


def new_entry_id() -> str:
    """A UUIDv7 (RFC 9562 5.7) as 32 lower-case hexadecimal digits."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = milliseconds << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return f"{value:032x}"


# -- addresses ---------------------------------------------------------------------------------------------------------

_ATEXT = r"[^\x00-\x20\x7f()<>\[\]:;@\\,\"]"
_LOCAL = rf"(?:{_ATEXT}+|\"(?:[^\x00-\x1f\x7f\"\\]|\\[^\x00-\x1f\x7f])*\")"
_LABEL = r"[^\W_](?:[\w-]*[^\W])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[^\x00-\x20\x7f\[\]\\]+\])"
_ADDRESS = re.compile(rf"({_LOCAL})@({_DOMAIN})")


def check_address(address: str, what: str = "recipient") -> str:
    """The address, if it is a Mailbox of RFC 5321 4.1.2 (RFC 6531: with UTF-8); else CorruptData, naming it."""
    shown = repr(address if len(address) <= 80 else address[:77] + "...")
    try:
        octets = len(address.encode())
    except UnicodeEncodeError:
        raise CorruptData(f"{what} {shown} is not valid Unicode") from None
    if octets > 254:
        raise CorruptData(f"{what} {shown} has {octets} octets; an address has at most 254")
    match = _ADDRESS.fullmatch(address)
    if match is None or not address.isprintable():
        raise CorruptData(f"{what} {shown} is not an address like ann@example.com")
    if len(match[1].encode()) > 64:
        raise CorruptData(f"{what} {shown} has more than 64 octets before the @")
    return address


def needs_utf8(sender: str, recipients: Iterable[str]) -> bool:
    """Whether the envelope needs SMTPUTF8 (RFC 6531)."""
    return not (sender.isascii() and all(map(str.isascii, recipients)))


_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]{1,20}")


def check_envelope(sender: str, recipients: Sequence[Addressee]) -> tuple[Addressee, ...]:
    """The recipients without duplicates, all of them valid; sender may be empty (the null reverse-path)."""
    if sender:
        check_address(sender, "sender")
    if not recipients:
        raise NoRecipients("no recipients: name them, or give the message a To, Cc or Bcc field")
    if len(recipients) > MAX_RECIPIENTS:
        raise TooBig(f"{len(recipients)} recipients; one message has at most {MAX_RECIPIENTS}, submit it in parts")
    unique: dict[tuple[str, str], Addressee] = {}
    for recipient in recipients:
        unique.setdefault((recipient.address_type, recipient.address), recipient)
    ordered = tuple(unique.values())
    for recipient in ordered:
        if recipient.kind not in ("to", "cc", "bcc"):
            raise CorruptData(f"recipient kind {recipient.kind!r} is not one of to, cc, bcc")
        if not _ADDRESS_TYPE.fullmatch(recipient.address_type):
            raise CorruptData(f"address type {recipient.address_type[:40]!r} is not one like SMTP")
        if recipient.address_type == "SMTP":
            check_address(recipient.address)
        elif not recipient.address or len(recipient.address) > 1024 or not recipient.address.isprintable():
            raise CorruptData(f"recipient {recipient.address[:80]!r} is not a {recipient.address_type[:20]!r} address")
    return ordered


# -- the header --------------------------------------------------------------------------------------------------------

_HEADER_END = re.compile(rb"\A(?>\r\n|\r|\n)|(?>\r\n|\r|\n){2}")
_BCC = re.compile(
    rb"(?:\A|(?<=[\r\n]))(?:resent-)?bcc[ \t]*:[^\r\n]*(?>\r\n|\r|\n|\Z)(?:[ \t][^\r\n]*(?>\r\n|\r|\n|\Z))*",
    re.IGNORECASE,
)
_FOLD = re.compile(r"(?>\r\n|\r|\n)(?=[ \t])")


def header_end(content: bytes) -> int | None:
    """How many octets the header has, its empty line not counted; None if the content ends before the header does."""
    match = _HEADER_END.search(content)
    if match is None:
        return None
    if match.start() == 0:
        return 0
    return match.start() + (2 if match[0].startswith(b"\r\n") else 1)


def fields(header: bytes, name: str) -> list[str]:
    """The unfolded bodies of all fields of that name, undecoded, 8-bit octets read as UTF-8 where they are that."""
    pattern = rb"(?:\A|(?<=[\r\n]))" + re.escape(name.encode()) + rb"[ \t]*:([^\r\n]*(?:(?>\r\n|\r|\n)[ \t][^\r\n]*)*)"
    return [_FOLD.sub("", _text(found)).strip() for found in re.findall(pattern, header, re.IGNORECASE)]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def decoded(value: str) -> str:
    """An unstructured field for people to read: encoded words of RFC 2047 decoded where that is possible."""
    if "=?" not in value:
        return value
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except (LookupError, ValueError, MessageError):  # an unknown charset, a broken encoding
        return value


def read_header(content: bytes) -> bytes:
    """The header of a message. Raises CorruptData where there is none, TooBig beyond a megabyte."""
    head = content[: MAX_HEADER + 4]
    end = header_end(head)
    if end is None:
        if len(content) > MAX_HEADER:
            raise TooBig(f"the header has more than {MAX_HEADER} octets: does an empty line end it?")
        end = len(head)
    return head[:end]


def subject_of(header: bytes) -> str:
    """The subject for lists: decoded, in one line, at most 998 characters, no lone surrogates."""
    found = fields(header, "Subject")
    text = decoded(found[0])[:998] if found else ""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "\ufffd" for char in text)


def addresses(header: bytes, *names: str) -> Iterator[tuple[str, str]]:
    """(field name, address) of every mailbox in those fields. Display names and empty groups are passed over."""
    for name in names:
        for _, address in _mailboxes(fields(header, name)):
            if address:
                yield name, address


def _mailboxes(bodies: list[str]) -> list[tuple[str, str]]:
    """Leniently on every Python: newer ones would drop a whole field for a trailing comma. Each address is checked."""
    if _LENIENT:
        return getaddresses(bodies, strict=False)
    return getaddresses(bodies)


_LENIENT = "strict" in inspect.signature(getaddresses).parameters


def without_bcc(header: bytes) -> bytes:
    """The header without Bcc and Resent-Bcc (RFC 5322 3.6.3)."""
    return _BCC.sub(b"", header) if b"bcc" in header.lower() else header


# -- what the submitter gave -------------------------------------------------------------------------------------------


def _generate(message: EmailMessage) -> bytes:
    try:
        return message.as_bytes()
    except UnicodeEncodeError:  # an address with UTF-8: only SMTPUTF8 can carry it
        return message.as_bytes(policy=message.policy.clone(utf8=True))  # type: ignore[call-arg]  # a policy of email.policy


def to_bytes(message: Any) -> bytes:
    """The octets of an email.message.EmailMessage, of bytes, or of a binary file (read to its end)."""
    if isinstance(message, EmailMessage):
        try:
            return _generate(message)
        except Exception as error:  # the email package raises many kinds for what cannot be generated
            raise CorruptData(f"the message cannot be written out: {error}") from error
    if isinstance(message, (bytes, bytearray, memoryview)):
        return bytes(message)
    if hasattr(message, "read"):
        content = message.read()
        if isinstance(content, bytes):
            return content
    raise CorruptData(f"a message is an EmailMessage, bytes or a binary file, not {type(message).__name__}")


def prepare(
    message: Any,
    *,
    sender: str | None = None,
    recipients: Sequence[str | Addressee] | None = None,
    entry_id: str | None = None,
    priority: str | int = Priority.NORMAL,
    send_at: int | None = None,
    expires: int | None = None,
    key: str | None = None,
    hold: bool = False,
    sent_folder: str | None = None,
    delete_after_submit: bool = False,
) -> Submission:
    """Check a message and make it a Submission. Sender: else Sender, else the first From; recipients: else To, Cc, Bcc.

    Raises CorruptData, TooBig, NoRecipients.
    """
    content = to_bytes(message)
    if not content.strip(b"\r\n"):
        raise CorruptData("the message is empty: it needs a header, and a body after an empty line")
    header = read_header(content)
    if sender is None:
        found = next((address for _, address in addresses(header, "Sender", "From")), None)
        if found is None:
            raise CorruptData("no sender: name one, or give the message a From field")
        sender = found
    if recipients is None:
        named = [Addressee(address, name.lower()) for name, address in addresses(header, "To", "Cc", "Bcc")]
    else:
        named = [r if isinstance(r, Addressee) else Addressee(r) for r in recipients]
    if entry_id is not None and not _ENTRY_ID.fullmatch(entry_id):
        raise CorruptData(f"entry id {entry_id[:80]!r} is not 32 hexadecimal digits")
    for value, what in ((key, "an idempotency key"), (sent_folder, "a sent folder's name")):
        if value is not None and (not value or _CONTROL.search(value)):
            raise CorruptData(f"{what} cannot be {value[:80]!r}: give text without control characters")
    return Submission(
        entry_id=entry_id.lower() if entry_id else new_entry_id(),
        sender=sender,
        recipients=check_envelope(sender, named),
        content=content,
        subject=subject_of(header),
        eight_bit=not content.isascii(),
        priority=Priority.of(priority),
        send_at=send_at,
        expires=expires,
        key=key,
        hold=hold,
        sent_folder=sent_folder,
        delete_after_submit=delete_after_submit,
    )
