"""Where settings come from: the file, the environment, the command line; and where each key was found."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings.exceptions import SettingsError

from spoold.errors import ConfigurationError

DEFAULT_FILES = ("spoold.toml", "/etc/spoold/spoold.toml")
PREFIX = "SPOOLD_"
Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """What was read, by the place where it stood. `given` names the options of the command line by key."""

    path: str | None = None
    lines: Mapping[Key, int] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)  # normalized: as written
    given: Mapping[Key, str] = field(default_factory=dict)

    def where(self, *key: str | int) -> str:
        """Where a key, or what is nearest above it, was set."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.given:
                return self.given[key[:end]]
        name = variable(*key)
        found = self.variables.get(name)
        if found is None and key[:-1]:
            above = variable(*key[:-1]) + "__"
            inside = (written for known, written in self.variables.items() if known.startswith(above))
            found = next(inside, None) if key[:-1] not in self.lines else None
        if found is not None:
            return found
        for end in range(len(key), 0, -1):
            if key[:end] in self.lines:
                return f"{self.path}:{self.lines[key[:end]]}"
        return self.path or "configuration"


def variable(*key: str | int) -> str:
    """The environment variable of a key, in capitals; what a shell allows in no name is an underscore."""
    return PREFIX + "__".join(re.sub(r"[^A-Z0-9_]", "_", str(part).upper()) for part in key)


# -- the file ----------------------------------------------------------------------------------------------------------


def find_file(config: str | None) -> str | None:
    """The file to read: the one named, else $SPOOLD_CONFIG, else the first default one that exists."""
    named = config or os.environ.get("SPOOLD_CONFIG")
    if named:
        if not os.path.exists(named):
            by = "--config" if config else "$SPOOLD_CONFIG"
            raise ConfigurationError(f"{named}: no such file: correct {by}")
        return named
    return next((path for path in DEFAULT_FILES if os.path.exists(path)), None)


def read_file(path: str) -> tuple[dict[str, Any], dict[Key, int]]:
    """The file's content, and the line of each key."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror}: correct its permissions or --config"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 (at octet {error.start}): save it as UTF-8") from error
    try:
        return tomllib.loads(text), dict(_lines(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(_syntax_error(path, text, str(error))) from error


def _syntax_error(path: str, text: str, said: str) -> str:
    """What tomllib says ends in (at line 3, column 8), or (at end of document)."""
    at = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", said)
    if at is None:
        return f"{path}: not valid TOML: {said}"
    line = at[1] or str(max(1, len(text.splitlines())))
    column = f" (column {at[2]})" if at[2] else " (the file ends too early)"
    return f"{path}:{line}: not valid TOML: {said[: at.start()]}{column}"


_HEADER = re.compile(r"\s*(\[\[?)(.+?)\]\]?\s*(?:#.*)?$")
_PART = r"(?:[A-Za-z0-9_-]++|\"[^\"]*+\"|'[^']*+')"
_ASSIGNMENT = re.compile(rf"\s*({_PART}(?:[ \t]*+\.[ \t]*+{_PART})*+)\s*=")


def _lines(text: str) -> Iterator[tuple[Key, int]]:
    """The line of each table and key; tomllib tells none. A key inside of an inline table has its table's line."""
    table: Key = ()
    counts: dict[Key, int] = {}
    seen: set[Key] = set()
    for number, line in enumerate(text.split("\n"), 1):
        header = _HEADER.match(line)
        if header and (parts := _parts(header[2])):
            table = parts
            if header[1] == "[[":
                counts[parts] = counts.get(parts, -1) + 1
                table = (*parts, counts[parts])
            found = table
        elif (assignment := _ASSIGNMENT.match(line)) and (parts := _parts(assignment[1])):
            found = (*table, *parts)
        else:
            continue
        for end in range(1, len(found) + 1):
            if found[:end] not in seen:
                seen.add(found[:end])
                yield found[:end], number


def _parts(key: str) -> Key:
    """A key of TOML, perhaps dotted and quoted, in its parts; empty if it is none."""
    try:
        value: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    parts: list[str] = []
    while isinstance(value, dict):
        ((part, value),) = value.items()
        parts.append(part)
    return tuple(parts)


# -- the environment ---------------------------------------------------------------------------------------------------


class Environment(EnvSettingsSource):
    """`SPOOLD_SECTION__KEY` for every known section, and `SPOOLD_ROUTES` as JSON. Empty ones count as not set."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True)
        sections = tuple(f"{PREFIX}{name}__".lower() for name in settings_cls.model_fields)
        whole = f"{PREFIX}routes".lower()
        self.env_vars: dict[str, str | None] = {
            n: v for n, v in self.env_vars.items() if n.startswith(sections) or n == whole
        }

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        """A provider's option stays text (a password may look like a number), unless it is a JSON array."""
        if field is None and not value.startswith("["):
            return value
        return super().decode_complex_value(field_name, field, value)


def read_environment(settings_cls: type[BaseSettings]) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """What the environment sets, its variables (normalized, and as written), and what is wrong with them."""
    source = Environment(settings_cls)
    written = {name.lower(): name for name in os.environ}
    variables = {name.upper(): written[name] for name in source.env_vars}
    inside = variable("routes") + "__"
    problems = []
    for name in [name for name in variables if name.startswith(inside)]:
        problems.append(f"{variables[name]}: give all routes as a JSON array in {inside[:-2]}")
        del source.env_vars[name.lower()]
    try:
        return source(), variables, problems
    except SettingsError:  # of all that can stand in the environment only routes must be JSON
        problems.append(f"{inside[:-2]}: not valid JSON: give an array of routes")
        del source.env_vars[inside[:-2].lower()]
        return source(), variables, problems


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, table by table; `above` wins. A name from the environment finds one that is written otherwise."""
    result = dict(below)
    known = {variable(name): name for name in below}
    for name, value in above.items():
        target = name if name in below else known.get(variable(name), name)
        under = result.get(target)
        result[target] = merge(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return result
