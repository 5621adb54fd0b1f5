"""Times as people and programs give them, as milliseconds since 1970 UTC. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from spoold.errors import UsageError

When = datetime | timedelta | float | str
_LATEST = 253402300799999  # the last millisecond of the year 9999
_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "": 1000}
_PART = re.compile(r"(\d+(?:\.\d+)?)([wdhms]?)")
_RELATIVE = re.compile(rf"\+(?:{_PART.pattern})+")


def milliseconds(when: When | None, now: int, what: str) -> int | None:
    """The moment that `when` stands for; `what` names the argument in an error.

    A datetime, or ISO 8601 text, without a zone is local time; a timedelta, or text like "+10m" or "+1h30m", counts
    from `now`; a number is seconds since 1970 UTC. Raises UsageError.
    """
    if when is None:
        return None
    try:
        found = _milliseconds(when, now)
    except (ValueError, OverflowError, OSError, TypeError):
        found = None
    if found is None:
        raise UsageError(
            f"{what} {when!r:.80} is not a time: give ISO 8601 like 2026-11-23T03:00:00Z, +10m, a datetime, a timedelta,"
            " or seconds since 1970"
        )
    if not 0 <= found <= _LATEST:
        raise UsageError(f"{what} {when!r:.80} lies outside of the years 1970 to 9999: is it in seconds?")
    return found


def _milliseconds(when: When, now: int) -> int | None:
    if isinstance(when, datetime):
        return round(when.timestamp() * 1000)
    if isinstance(when, timedelta):
        return now + round(when.total_seconds() * 1000)
    if isinstance(when, str):
        text = when.strip()
        if _RELATIVE.fullmatch(text):
            return now + round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    if isinstance(when, bool) or not isinstance(when, int | float):
        return None
    return round(when * 1000)
