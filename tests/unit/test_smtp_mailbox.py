"""Which addresses may stand in a command."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold_smtp.mailbox import MAX_PATH, is_fit, quote_for_text


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.com",
        "first.last+tag@sub.example.com",
        "o'brien@example.com",
        "a..b.@docomo.example",
        "postmaster",
        "ann@[192.0.2.1]",
        "ann@[IPv6:2001:db8::1]",
        '"ann smith"@example.com',
        '"a\\"b@c>d"@example.com',
        '""@example.com',
        "bounces+ann=example.org@lists.example.com",
        "ann@under_score.example.com",
        "josé@exämple.com",
        "用户@例子.广告",
        "x" * 64 + "@example.com",
    ],
)
def test_a_mailbox_is_fit(address: str) -> None:
    assert is_fit(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "@example.com",
        "ann@",
        "ann@example.com ",
        " ann@example.com",
        "ann smith@example.com",
        "ann@exam ple.com",
        "ann@example.com\r",
        "ann@example.com\n",
        "ann@example.com\r\nDATA",
        "ann@example.com>",
        "<ann@example.com>",
        "ann@@example.com",
        "ann@example@com",
        "ann,bob@example.com",
        "ann;bob",
        "@relay.example.com:ann@example.com",
        "ann\t@example.com",
        "ann\x00@example.com",
        "ann\x7f@example.com",
        "ann\x85@example.com",
        "ann\xa0@example.com",
        "ann\u2028@example.com",
        "ann\u3000@example.com",
        "ann\ud800@example.com",
        '"ann@example.com',
        '"a"b"@example.com',
        '"a\\"@example.com',
        '"a\rb"@example.com',
        '"a\u2029b"@example.com',
        "ann@[192.0.2.1",
        "ann@[19 2.0.2.1]",
        "ann@[a]]",
        "ann@exa/mple.com",
        "ann@example.com,",
        "a" * MAX_PATH + "@example.com",
        "é" * (MAX_PATH // 2) + "@example.com",
    ],
)
def test_what_is_no_mailbox_is_not_fit(address: str) -> None:
    assert not is_fit(address)


@given(st.text(max_size=30) | st.text('a@."\\ <>\r\n[]:,é', max_size=12))
def test_what_is_fit_can_neither_end_a_command_nor_begin_another_parameter(address: str) -> None:
    if is_fit(address):
        octets = address.encode()
        assert not set(octets) & {*range(32), 127}
        assert not any(space in address for space in "\x85\xa0\u2028\u2029") or '"' in address
        if not octets.startswith(b'"'):
            assert not set(octets) & set(b' <>"\\,;')


@given(st.text(max_size=200))
def test_an_address_in_a_reason_is_short_and_printable(address: str) -> None:
    quoted = quote_for_text(address)
    assert quoted.isprintable()
    assert quoted.isascii()
    assert len(quoted) <= 10 * 80 + 2
