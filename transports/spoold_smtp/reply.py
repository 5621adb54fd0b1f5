"""Reading replies (RFC 5321 4.2) and enhanced status codes (RFC 2034, RFC 3463). Pure, bounded, strict.

A reply that breaks the grammar is not repaired: who cannot tell where one reply ends does not know which command the
next one answers. A lone CR or LF inside a line is such a breach, and also what somebody would use who gets a server to
echo his words.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from spoold.provider import Reply

MAX_LINE = 4096  # octets with CRLF; RFC 5321 4.5.3.1.5 says 512, servers say more
MAX_LINES = 100
MAX_TEXT = 2000  # characters of a reply that are kept
_LINE_TOO_LONG = f"a reply line longer than {MAX_LINE} octets"
_ENHANCED_STATUS = re.compile(r"[245](?:\.(?:0|[1-9][0-9]{0,2})){2}(?![^\s])")


class WireReply(NamedTuple):
    """A well-formed reply as read: the code, and the text of its lines joined by LF."""

    code: int
    text: bytes


class ReplyReader:
    """Cuts a stream of octets into replies, whatever the chunks it arrives in.

    `feed()` appends what is complete to `replies`. After a breach of the grammar `fault` says what it was, and nothing
    more is read; the replies before it stand.
    """

    __slots__ = ("_code", "_lines", "_tail", "fault", "replies")

    def __init__(self) -> None:
        self.replies: list[WireReply] = []
        self.fault = ""
        self._tail = b""
        self._lines: list[bytes] = []
        self._code = 0

    @property
    def pending(self) -> bool:
        """True if a part of a reply has been read."""
        return bool(self._tail or self._lines)

    def feed(self, data: bytes) -> None:
        """Read `data`, the next octets from the server."""
        if self.fault:
            return
        if self._tail:
            data = self._tail + data
        lines = data.split(b"\n")
        self._tail = lines.pop()
        for line in lines:
            size = len(line)
            if size >= MAX_LINE:
                self.fault = _LINE_TOO_LONG
                return
            if line.find(b"\r") != size - 1:
                self.fault = "a lone CR or LF in a reply"
                return
            digits, separator = line[:3], line[3:4]
            # The grammar allows a second digit up to 5 only, yet 571 and the like are in use; the first one decides.
            if not (b"200" <= digits <= b"599" and digits.isdigit()):
                self.fault = f"not a reply: {line[:60]!r}"
                return
            if separator == b" " and not self._lines:
                self.replies.append(WireReply(int(digits), line[4:-1]))
            elif not self._continue(int(digits), separator, line[4:-1]):
                return
        if len(self._tail) >= MAX_LINE:
            self.fault = _LINE_TOO_LONG

    def _continue(self, code: int, separator: bytes, text: bytes) -> bool:
        """Take a line of a reply that has several, or no text at all. False if it is a breach."""
        lines = self._lines
        if lines and code != self._code:
            self.fault = f"a reply with two codes, {self._code} and {code}"
        elif separator == b"-":
            self._code = code
            lines.append(text)
            if len(lines) >= MAX_LINES:
                self.fault = f"a reply of more than {MAX_LINES} lines"
        elif separator in (b" ", b"\r"):
            self.replies.append(WireReply(code, b"\n".join([*lines, text])))
            lines.clear()
        else:
            self.fault = f"not a reply: {code}{separator.decode('ascii', 'replace')}..."
        return not self.fault


def reply_from(code: int, text: bytes | str) -> Reply:
    """The reply in the form that the spooler keeps: lines joined by a space, the enhanced status taken out of them.

    An enhanced status counts only if its class is the code's first digit (RFC 2034 4). Unprintable characters become
    "?", text beyond `MAX_TEXT` characters is cut.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    match = _ENHANCED_STATUS.match(text)
    enhanced = match[0] if match is not None and match[0][0] == str(code)[0] else None
    if "\n" in text:
        text = " ".join(_rest_of_line(line, enhanced) for line in text.split("\n")).strip()
    elif enhanced:
        text = text[len(enhanced) + 1 :]
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "?" for char in text)
    return Reply(code, enhanced, text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "...")


def _rest_of_line(line: str, enhanced: str | None) -> str:
    return (line[len(enhanced) :] if enhanced and line.startswith(enhanced) else line).strip()
