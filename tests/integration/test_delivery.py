"""What a transport is handed: content without Bcc, in pieces, verified."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.errors import CorruptData
from spoold.message import without_bcc
from spoold.spooler.delivery import Delivery
from spoold.spooler.router import Choice
from spoold.store.spooling import Claimed


def delivery(pieces: Sequence[bytes], *, size: int | None = None, digest: bytes | None = None) -> Delivery:
    """One whose content lies in those pieces."""
    whole = b"".join(pieces)
    claim = Claimed(
        id=1, message_id=1, address="ann@example.com", address_type="SMTP", attempts=0, route_position=0, marked=0,
        entry_id="0" * 32, sender="app@example.com", size=len(whole) if size is None else size,
        digest=digest or hashlib.sha256(whole).digest(), eight_bit=0, utf8=0, begun=0, expires=None, content=None,
    )  # fmt: skip

    async def read(_: int, seq: int) -> bytes | None:
        return pieces[seq] if seq < len(pieces) else None

    return Delivery([claim], 1, Choice("relay", "host:25", 1, False), None, read)  # type: ignore[arg-type]


async def content(one: Delivery) -> bytes:
    return b"".join([chunk async for chunk in one.content()])


async def _collect(one: Delivery, into: list[bytes]) -> None:
    into.extend([chunk async for chunk in one.content()])


def _cut(whole: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[a:b] for a, b in pairwise(edges)]


@given(st.lists(st.integers(0, 1000), max_size=6), st.sampled_from([b"\n", b"\r\n", b"\r"]))
async def test_bcc_is_taken_out_wherever_the_pieces_end(places: list[int], end: bytes) -> None:
    lines = [b"From: a@b", b"Bcc: secret@example.com,", b"\tother@example.com", b"Subject: x", b"resent-bcc : s@e", b""]
    whole = end.join([*lines, b"Bcc: this is body", b"."])
    got = await content(delivery(_cut(whole, places)))
    assert got == end.join([b"From: a@b", b"Subject: x", b"", b"Bcc: this is body", b"."])
    assert got == without_bcc(whole[: whole.index(b"this") - 5]) + whole[whole.index(b"this") - 5 :]


async def test_content_that_was_changed_or_cut_is_never_given_away_to_its_end() -> None:
    pieces = [b"From: a@b\n\n", b"x" * 100, b"the end"]
    for damaged in ([*pieces[:2], b"THE END"], pieces[:2]):
        one = delivery(damaged, size=118, digest=hashlib.sha256(b"".join(pieces)).digest())
        given_away: list[bytes] = []
        with pytest.raises(CorruptData):
            await _collect(one, given_away)
        assert b"END" not in b"".join(given_away)


async def test_a_message_without_a_body_is_all_header() -> None:
    assert await content(delivery([b"From: a@b\nBcc: x@y\nSubject: z"])) == b"From: a@b\nSubject: z"
