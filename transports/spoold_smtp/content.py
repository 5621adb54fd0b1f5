"""The message as it goes over the wire in DATA: CRLF line endings and transparency. Pure and streaming.

Every bare CR and every bare LF becomes CRLF (RFC 5321 2.3.8 forbids both; a server that takes either for a line ending
would find an end of data where there is none, CVE-2023-51764), a line that begins with a dot gets another one
(RFC 5321 4.5.2), and the last line ends with CRLF. So the wire never carries CRLF "." CRLF before the end of data.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator


class DataEncoder:
    """Encodes the chunks of one message. `feed()` each of them, then `finish()` once; write what they return."""

    __slots__ = ("_at_line_start", "_held_cr")

    def __init__(self) -> None:
        self._at_line_start = True
        self._held_cr = False  # the last chunk ended in CR: CRLF or bare, the next octet tells

    def feed(self, chunk: bytes) -> bytes:
        """The wire form of the next octets of the message, of any number."""
        if not chunk:
            return b""
        head = b""
        if self._held_cr:
            self._held_cr = False
            self._at_line_start = True
            head = b"\r\n"
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if chunk.endswith(b"\r"):
            self._held_cr = True
            chunk = chunk[:-1]
        if not chunk:
            return head
        ends_line = chunk.endswith((b"\n", b"\r"))
        if b"\r" not in chunk:
            chunk = chunk.replace(b"\n", b"\r\n")
        else:
            chunk = b"\r\n".join(chunk.splitlines())  # splits at CRLF, CR and LF alike; faster than looking first
            if ends_line:
                chunk += b"\r\n"
        if self._at_line_start and chunk.startswith(b"."):
            head += b"."
        if b"\r\n." in chunk:
            chunk = chunk.replace(b"\r\n.", b"\r\n..")
        self._at_line_start = ends_line
        return head + chunk if head else chunk

    def finish(self) -> bytes:
        """What is missing to the end of the last line; nothing if it is complete, or if there is no line."""
        if self._held_cr or not self._at_line_start:
            self._held_cr = False
            self._at_line_start = True
            return b"\r\n"
        return b""


async def header_is_ascii(content: AsyncIterator[bytes]) -> bool:
    """False if the header section (RFC 5322 2.1) has an octet above 127: such a message needs SMTPUTF8 (RFC 6531).

    Closes `content`.
    """
    encoder = DataEncoder()  # brings the line endings in order
    tail = b"\r\n"  # an empty line may also be the first
    try:
        async for chunk in content:
            section, empty_line, _ = (tail + encoder.feed(chunk)).partition(b"\r\n\r\n")
            if not section.isascii():
                return False
            if empty_line:
                return True
            tail = section[-3:]
    finally:
        await close_content(content)
    return True


async def close_content(content: AsyncIterator[bytes]) -> None:
    """Close what was not read to its end, if it is a generator: it may hold a database connection."""
    if isinstance(content, AsyncGenerator):
        await content.aclose()
