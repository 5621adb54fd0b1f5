"""What goes over the wire in DATA.

Invariant tested: whatever the content and however it is cut, a compliant server decodes it to the same lines, and
nothing in it can be taken for the end of data by any server.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from hypothesis import example, given
from hypothesis import strategies as st

from spoold_smtp.content import DataEncoder, header_is_ascii

OCTETS = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.\r\n", b"x", b"\0", b"\xff"]), max_size=30).map(
    b"".join
) | st.binary(max_size=60)


@st.composite
def cut_octets(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    content = draw(OCTETS)
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=6)))
    return content, [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


def encode(chunks: list[bytes]) -> bytes:
    encoder = DataEncoder()
    return b"".join([*(encoder.feed(chunk) for chunk in chunks), encoder.finish()])


def in_order(content: bytes) -> bytes:
    """The reference: every kind of line break is CRLF, and the last line has one."""
    content = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"


def decode(wire: bytes) -> bytes:
    """What a server does with the data (RFC 5321 4.5.2), which it reads up to CRLF "." CRLF."""
    assert wire.endswith(b".\r\n")
    lines = wire.removesuffix(b".\r\n").split(b"\r\n")
    assert b"." not in lines, "the data ends before its end"
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


@given(cut_octets())
@example((b"a\r\n.\r\nb", [b"a\r", b"\n", b".", b"\r", b"\nb"]))
@example((b".", [b"."]))
@example((b"\r", [b"\r", b""]))
@example((b"\r\r\n", [b"\r", b"\r", b"\n"]))
def test_a_compliant_server_decodes_the_content_with_its_line_breaks_in_order(case: tuple[bytes, list[bytes]]) -> None:
    content, chunks = case
    assert decode(encode(chunks) + b".\r\n") == in_order(content)


@given(cut_octets())
def test_the_wire_form_does_not_depend_on_the_chunks(case: tuple[bytes, list[bytes]]) -> None:
    content, chunks = case
    assert encode(chunks) == encode([content])


@given(cut_octets())
def test_no_server_can_find_an_end_of_data_inside(case: tuple[bytes, list[bytes]]) -> None:
    wire = encode(case[1])
    assert re.search(rb"\r(?!\n)|(?<!\r)\n", wire) is None, "a bare CR or LF"
    assert re.search(rb"(?:\A|[\r\n])\.[\r\n]", wire) is None, "a lone dot"
    assert wire == b"" or wire.endswith(b"\r\n")


@given(st.lists(st.sampled_from([b"a", b"", b"..", b"x" * 70, b"\xe9", b" y"]), max_size=20))
def test_content_that_is_in_order_is_changed_only_at_its_leading_dots(lines: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    assert encode([content]) == content.replace(b"..", b"...")


HEADERS = st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"\r", b"\xc3\xa9", b": "]), max_size=20).map(b"".join)


@given(HEADERS, st.lists(st.integers(0, 30), max_size=5))
def test_the_header_is_ascii_if_nothing_before_the_first_empty_line_is_not(content: bytes, cuts: list[int]) -> None:
    at = sorted({min(cut, len(content)) for cut in cuts})
    chunks = [content[a:b] for a, b in zip([0, *at], [*at, len(content)], strict=True)]

    async def cut() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    header = (b"\r\n" + in_order(content)).split(b"\r\n\r\n")[0]
    assert asyncio.run(header_is_ascii(cut())) == header.isascii()
