"""Durations and sizes as people write them. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}  # seconds
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw])\s*)+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_OCTETS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "kb": 1000, "mb": 1000**2, "gb": 1000**3}
_SIZE = re.compile(r"(\d+)\s*([kmg]?)(i?)(b?)", re.ASCII | re.IGNORECASE)


def duration(value: Any) -> Any:
    """Seconds from "90s", "1h30m", "5d", "250ms" or a number. Raises ValueError; other types are pydantic's to refuse."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(_A_DURATION)  # noqa: TRY004 - pydantic turns a ValueError into an error of the field
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise ValueError(_A_DURATION)
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def duration_text(seconds: float) -> str:
    """The shortest exact way to write it: "1h30m", "0.5s"."""
    if seconds != int(seconds) or seconds == 0:
        return f"{seconds:g}s"
    rest, parts = int(seconds), []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, int(_UNITS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def size(value: Any) -> Any:
    """Octets from "50MiB", "50MB", "50M" (= MiB) or a number. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(_A_SIZE)  # noqa: TRY004 - as above
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None or (match[3] and not (match[2] and match[4])):
        raise ValueError(_A_SIZE)
    number, prefix, binary, octet = match.groups()
    unit = prefix.lower() + ("b" if prefix and octet and not binary else "")
    return int(number) * _OCTETS[unit]


def size_text(octets: int) -> str:
    """The shortest exact way to write it: "50MiB"; plain octets if no unit fits."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if octets and octets % factor == 0:
            return f"{octets // factor}{unit}"
    return str(octets)


_A_DURATION = 'give a duration like "90s", "1h30m" or "5d", or a number of seconds'
_A_SIZE = 'give a size like "50MiB", "500KB", or a number of octets'

Seconds = Annotated[
    float,
    BeforeValidator(duration),
    Field(ge=0, le=1e9, allow_inf_nan=False),
    PlainSerializer(duration_text, return_type=str, when_used="json"),
]
Octets = Annotated[
    int,
    BeforeValidator(size),
    Field(ge=1, le=2**50),
    PlainSerializer(size_text, return_type=str, when_used="json"),
]
