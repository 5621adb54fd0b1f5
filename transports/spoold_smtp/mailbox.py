"""Is an address fit to stand between the angle brackets of MAIL and RCPT? Pure; RFC 5321 4.1.2, RFC 6531 3.3.

What passes here can neither end the command nor add another one. Beyond that it is lenient: dots anywhere in the
local part (some old providers issued such addresses), underscores in the domain, and a local part alone, which a
relay completes. The server has the last word.
"""

from __future__ import annotations

import re

MAX_PATH = 900  # leaves room for the command and its parameters within a line of 1000 octets

# U+0080-U+00A0 are controls and the no-break space, U+D800-U+DFFF cannot be encoded; \s covers Unicode's other spaces.
_OTHER = r"\x7f-\xa0\ud800-\udfff\s"
_ATOM = rf"""[^\x00-\x20()<>\[\]:;@\\,"{_OTHER}]+"""
_QUOTED = r""""(?:[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"\\]|\\[\x20-\x7e])*\""""
_DOMAIN = rf"[^\x00-,/:-@\[-^`{{-~{_OTHER}]+"
_LITERAL = r"\[[\x21-\x5a\x5e-\x7e]+\]"
_PLAIN = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+")  # nearly all; the other takes twice as long
_MAILBOX = re.compile(rf"(?:{_ATOM}|{_QUOTED})(?:@(?:{_DOMAIN}|{_LITERAL}))?")


def is_fit(address: str) -> bool:
    """True if `address` is one mailbox and nothing else, short enough for a command line."""
    if _PLAIN.fullmatch(address) is None and _MAILBOX.fullmatch(address) is None:
        return False
    return len(address) <= MAX_PATH and (address.isascii() or len(address.encode()) <= MAX_PATH)


def quote_for_text(address: str) -> str:
    """The address for a reason text: quoted, control and other characters escaped, at most 80 characters of it."""
    return ascii(address if len(address) <= 80 else address[:77] + "...")
