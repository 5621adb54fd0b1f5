"""Messages that nobody here made up, awkward ones that somebody did, and what has to arrive of them."""

from __future__ import annotations

import importlib.resources
import re

LARGE = b"From: a@example.com\nSubject: large\nBcc: secret@example.com\n\n" + (b"x" * 75 + b"\n") * 395_000  # 30 MB
_TOP = b"From: a@example.com\nSubject: awkward\n"
_BLOCK = 64 * 1024  # what is encoded at a time; the store's chunks are a multiple of it
AWKWARD = {
    "dots": _TOP + b"\n.\n..\n.x\n\n.\n\n",
    "smuggling": _TOP + b"\none\n.\r\ntwo\r.\rthree\r\n.\nfour\r.\nfive\r\n.\rMAIL FROM:<evil@example.com>\r\n.\r\n",
    "bare-cr": _TOP.replace(b"\n", b"\r") + b"\rone\rtwo\r",
    "dot-at-the-end": _TOP + b"\n.",
    "cr-at-the-end": _TOP + b"\nx\r",
    "empty-lines": _TOP + b"\n\r\r\n\n\r\n\n",
    "eight-bit": _TOP + "Comments: grüße\n\ngrüße\n".encode() + "grüße\n".encode("latin-1") + bytes(range(128, 256)),
    "controls": _TOP + b"\n" + bytes(set(range(32)) - set(b"\r\n")) + b"\n",
    "long-lines": _TOP + b"\n" + b"x" * 998 + b"\n" + b"." * 2047 + b"\n" + b"." * 2048 + b"\n" + b"y" * 300_000,
    "long-field": _TOP + b"Comments: " + b"z" * 90_000 + b"\n folded\n\nbody\n",
    "bcc": b"bcc: a@example.com,\n b@example.com\n" + _TOP + b"Resent-Bcc : c@example.com\nBCC:\n\nBcc: stays\n",
    "no-body": _TOP,
    "no-header": b"\nbody alone\n",
    "for-delivery-agents": b"Return-Path: <x@example.com>\nDelivered-To: x@example.com\n" + _TOP + b"Content-Length: 7\n\nx\n",
    **{f"borders-{more}": _TOP + b"\n" + b"x" * more + b"\r\n.." * (5 * _BLOCK // 4) for more in range(4)},
}  # fmt: skip

_LINE_END = re.compile(rb"\r\n|\r|\n")


def corpus() -> dict[str, bytes]:
    """By address: the messages of CPython's own tests of its email package. FileNotFoundError if Python has none."""
    try:
        data = importlib.resources.files("test.test_email") / "data"
    except ModuleNotFoundError:
        data = None
    found = sorted((file.name, file) for file in data.iterdir() if file.name.endswith(".txt")) if data else []
    if len(found) < 40:
        raise FileNotFoundError("this Python comes without its own tests (Debian: libpython3-testsuite)")
    return {f"{name.removesuffix('.txt')}@example.com": file.read_bytes() for name, file in found}


def on_the_wire(content: bytes) -> bytes:
    """What has to arrive: every line ends with CRLF, the header has no Bcc. Written without a look at spoold's own."""
    lines = _LINE_END.split(content)
    if lines[-1] == b"":
        lines.pop()
    kept: list[bytes] = []
    in_header, in_bcc = True, False
    for line in lines:
        in_header = in_header and line != b""
        if in_header and not (in_bcc and line.startswith((b" ", b"\t"))):
            name, colon, _ = line.partition(b":")
            in_bcc = bool(colon) and name.strip().lower() in (b"bcc", b"resent-bcc")
        if not (in_header and in_bcc):
            kept.append(line)
    return b"".join(line + b"\r\n" for line in kept)
