"""What people and programs see: text made harmless, tables, JSON Lines, errors of one line."""

from __future__ import annotations

import dataclasses
import json
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

from spoold.outcome import Reply

_JOINERS = "\u200c\u200d"  # hold letters and emoji together


def plain(text: object) -> str:
    """The text without anything that a terminal would act upon or that turns the reading order: those are escaped.

    Everything that comes from a queue, a message or a server goes through here before people see it.
    """
    shown = str(text)
    return shown if shown.isprintable() else "".join(map(_harmless, shown))


def _harmless(letter: str) -> str:
    if letter.isprintable() or letter in _JOINERS:
        return letter
    if unicodedata.category(letter) == "Zs":  # spaces of other widths
        return " "
    return letter.encode("unicode_escape", "backslashreplace").decode()


def say(*parts: object) -> None:
    """One line on standard output."""
    print(plain(" ".join(str(part) for part in parts)))


def note(text: object) -> None:
    """One line for people on standard error."""
    print(plain(text), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """An error: `spoold: what was wrong, which value, what to do`, each line of it."""
    for line in text.splitlines() or [""]:
        note(f"spoold: {line}")


def say_json(record: Any) -> None:
    """A record (a dataclass) as one line of JSON, in ASCII: safe for a terminal and for every encoding."""
    print(json.dumps(dataclasses.asdict(record)))


def say_records(records: Iterable[Any]) -> None:
    """Records as JSON Lines."""
    for record in records:
        say_json(record)


def moment(time: str | None) -> str:
    """A time for people: UTC to the second."""
    return "-" if time is None else f"{time[:19]}Z"


def size(octets: float) -> str:
    """A size for people, in at most five characters: 999, 1.5K, 30M."""
    for unit in ("", "K", "M", "G"):
        if octets < 1000:
            return f"{octets:.0f}{unit}" if unit == "" or octets >= 10 else f"{octets:.1f}{unit}"
        octets /= 1024
    return f"{octets:.0f}T"


def count(number: int, what: str) -> str:
    """1 recipient, 2 recipients."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def reply(of: Reply | None) -> str:
    """A server's reply, or a reason of our own, in one line."""
    return "" if of is None else str(of)
