"""`--relay smtp[s]://[user[:pass]@]host[:port][?tls=...]`: a transport in one line. Pure."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_FORM = "use smtp[s]://[user[:pass]@]host[:port][?tls=none|opportunistic|starttls|implicit]"
_TO_HOST = re.compile(r"[^/?#]*(?://)?[^/?#]*")  # what it leaves of a URL comes after the host
_MODES = ("none", "opportunistic", "starttls", "implicit")


def relay_options(url: str) -> dict[str, Any]:
    """The options of an `smtp` transport. Raises ValueError, whose text never holds a part of the user or password."""
    if not url.isprintable() or " " in url:
        raise ValueError(f"spaces and control characters must be percent-encoded; {_FORM}")
    if "@" in _TO_HOST.sub("", url, count=1):
        raise ValueError("a '/', '?' or '#' in the user name or password must be percent-encoded: %2F, %3F, %23")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its own text may quote a password that was taken for a port
        raise ValueError(f"host or port cannot be understood; {_FORM}") from None
    if parts.scheme not in ("smtp", "smtps"):
        raise ValueError(f"it does not begin with smtp:// or smtps://; {_FORM}")
    if not host or parts.path not in ("", "/") or parts.fragment or port == 0:
        raise ValueError(f"host or port is missing, or something comes after them; {_FORM}")
    options: dict[str, Any] = {"host": host}
    if port is not None:
        options["port"] = port
    options |= _credentials(parts)
    tls = _tls(parts)
    if tls is not None:
        options["tls"] = tls
    return options


def _credentials(parts: SplitResult) -> dict[str, str]:
    userinfo, at, _ = parts.netloc.rpartition("@")
    if not at:
        return {}
    user, colon, password = userinfo.partition(":")
    try:
        found = {"username": unquote(user, errors="strict"), "password": unquote(password, errors="strict")}
    except UnicodeDecodeError:
        raise ValueError("the user name or password is not UTF-8 when percent-decoded") from None
    if not user:
        raise ValueError("the user name before the @ is empty")
    if not colon:
        del found["password"]
    return found


def _tls(parts: SplitResult) -> str | None:
    tls = "implicit" if parts.scheme == "smtps" else None
    given = parse_qsl(parts.query, keep_blank_values=True)
    for name, value in given:
        if name != "tls" or len(given) > 1:
            raise ValueError(f"after the ? only one tls=... is known; {_FORM}")
        if value not in _MODES:
            raise ValueError(f"tls={value!r:.40} is not one of {', '.join(_MODES)}")
        if tls is not None and value != tls:
            raise ValueError(f"smtps:// is tls=implicit, not tls={value}: use smtp://")
        tls = value
    return tls
