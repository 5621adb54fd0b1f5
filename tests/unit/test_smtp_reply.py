"""Reading replies.

Invariant tested: what is read does not depend on the chunks; what is not a reply is never repaired; memory is bounded.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spoold.provider import Reply
from spoold_smtp.reply import MAX_LINE, MAX_LINES, MAX_TEXT, ReplyReader, WireReply, reply_from

CODES = st.integers(200, 599)
TEXTS = st.binary(max_size=40).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))
REPLIES = st.lists(st.tuples(CODES, st.lists(TEXTS, min_size=1, max_size=4)), max_size=5)


def read(*chunks: bytes) -> ReplyReader:
    reader = ReplyReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader


def wire(code: int, lines: list[bytes]) -> bytes:
    return b"".join(b"%d-%b\r\n" % (code, line) for line in lines[:-1]) + b"%d %b\r\n" % (code, lines[-1])


@given(REPLIES, st.lists(st.integers(0, 500), max_size=6))
def test_well_formed_replies_are_read_whole_however_they_arrive(
    replies: list[tuple[int, list[bytes]]], cuts: list[int]
) -> None:
    stream = b"".join(wire(*reply) for reply in replies)
    at = sorted(min(cut, len(stream)) for cut in cuts)
    reader = read(*(stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True)))
    assert reader.replies == [WireReply(code, b"\n".join(lines)) for code, lines in replies]
    assert not reader.fault
    assert not reader.pending


@given(st.lists(st.sampled_from([b"250", b"-", b" ", b"ok", b"\r\n", b"\r", b"\n", b"3", b"\xff", b"1"]), max_size=30))
@example([b"250\r\n"])
@example([b"\r\n"])
@example([b"\n"])
@example([b"250-a\r\n250\r\n"])
def test_what_is_read_does_not_depend_on_the_chunks(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    whole = read(stream)
    bytewise = read(*(stream[at : at + 1] for at in range(len(stream))))
    assert (whole.replies, whole.fault) == (bytewise.replies, bytewise.fault)


@given(st.binary(max_size=200))
def test_any_octets_are_replies_or_a_fault_or_not_yet_complete(octets: bytes) -> None:
    reader = read(octets)
    for reply in reader.replies:
        assert 200 <= reply.code <= 599
    if not reader.fault:
        assert reader.pending == bool(octets and not octets.endswith(b"\r\n")) or reader.pending


@pytest.mark.parametrize(
    "octets",
    [
        b"ok\r\n",
        b"\r\n",
        b"25\r\n",
        b"199 x\r\n",
        b"600 x\r\n",
        b"25x y\r\n",
        b"250x\r\n",
        b"250\tx\r\n",
        b"250_x\r\n",
        b"250 x\n",
        b"\n",
        b"250 x\ry\r\n",
        b"250-x\r\n550 y\r\n",
        b"250-x\r\n550-y\r\n",
        b"\xb2\xb50 x\r\n",
    ],
)
def test_what_is_not_a_reply_is_a_fault(octets: bytes) -> None:
    reader = read(b"220 before\r\n" + octets + b"250 after\r\n")
    assert reader.fault
    assert reader.replies == [WireReply(220, b"before")]
    reader.feed(b"250 later\r\n")
    assert len(reader.replies) == 1


@pytest.mark.parametrize("octets", [b"571 5.7.1 no\r\n", b"250\r\n", b"250 \r\n", b"250-\r\n250\r\n"])
def test_what_servers_say_at_the_edge_of_the_grammar_is_read(octets: bytes) -> None:
    reader = read(octets)
    assert not reader.fault
    assert len(reader.replies) == 1


def test_a_line_may_be_long_but_not_endless() -> None:
    longest = b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n"
    assert len(longest) == MAX_LINE
    assert not read(longest).fault
    assert read(b"250 x" + longest[4:]).fault
    endless = read(*[b"2" * 100] * 1000)
    assert endless.fault
    assert len(endless._tail) <= MAX_LINE + 100


def test_a_reply_may_have_many_lines_but_not_endlessly_many() -> None:
    assert len(read(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n").replies) == 1
    assert read(b"250-x\r\n" * MAX_LINES).fault
    assert read(*[b"250-x\r\n"] * MAX_LINES).fault


@pytest.mark.parametrize(
    ("code", "text", "reply"),
    [
        (250, b"2.0.0 Ok: queued", Reply(250, "2.0.0", "Ok: queued")),
        (250, b"ok", Reply(250, None, "ok")),
        (250, b"", Reply(250, None, "")),
        (250, b"2.1.5", Reply(250, "2.1.5", "")),
        (550, b"5.1.1 no\n5.1.1 such\n5.1.1 user", Reply(550, "5.1.1", "no such user")),
        (550, b"5.1.1\nno such user", Reply(550, "5.1.1", "no such user")),
        (550, b"first\nsecond", Reply(550, None, "first second")),
        (550, b"4.1.1 another class", Reply(550, None, "4.1.1 another class")),
        (550, b"5.1 too short", Reply(550, None, "5.1 too short")),
        (550, b"5.1.1.1 too long", Reply(550, None, "5.1.1.1 too long")),
        (550, b"5.1000.1 too big", Reply(550, None, "5.1000.1 too big")),
        (550, b"5.01.1 leading nought", Reply(550, None, "5.01.1 leading nought")),
        (550, b"5.999.999 largest", Reply(550, "5.999.999", "largest")),
        (550, "5.1.1 unbekannt: jösé".encode(), Reply(550, "5.1.1", "unbekannt: jösé")),
        (550, b"5.1.1 \xff\x00\x1b[31m", Reply(550, "5.1.1", "\ufffd??[31m")),
        (550, b"5.1.1" + b"0" * 2100, Reply(550, None, "5.1.1" + "0" * (MAX_TEXT - 8) + "...")),
    ],
)
def test_a_reply_is_kept_as_code_enhanced_status_and_one_line_of_text(code: int, text: bytes, reply: Reply) -> None:
    assert reply_from(code, text) == reply


@given(CODES, st.binary(max_size=100) | st.text(max_size=100))
def test_the_text_kept_is_always_one_printable_line(code: int, text: bytes | str) -> None:
    kept = reply_from(code, text)
    assert kept.text.isprintable()
    assert kept.enhanced is None or kept.enhanced[0] == str(code)[0]
