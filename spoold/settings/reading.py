"""`load`: file, environment and command line, merged and checked. Every error is found, not only the first."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spoold.errors import ConfigurationError
from spoold.settings.effective import is_secret, shown
from spoold.settings.model import Settings, TransportSettings
from spoold.settings.relay import relay_options
from spoold.settings.sources import Key, Sources, find_file, merge, read_environment, read_file

CheckTransport = Callable[[str, TransportSettings, Callable[..., str]], Iterable[str]]


def load(
    config: str | os.PathLike[str] | None = None,
    queue: str | None = None,
    relay: str | None = None,
    *,
    check_transport: CheckTransport | None = None,
) -> Settings:
    """The configuration that holds. The arguments are those of the command line and win over everything.

    `config`: else $SPOOLD_CONFIG, ./spoold.toml, /etc/spoold/spoold.toml. `relay`: a transport that takes all mail;
    else $SPOOLD_RELAY if no transport is configured. `check_transport(name, transport, where)` adds the errors of a
    provider's own options to the others (the registry's). Raises ConfigurationError: one line for each error.
    """
    path = find_file(os.fspath(config) if config is not None else None)
    values, lines = read_file(path) if path is not None else ({}, {})
    environment, variables, problems = read_environment(Settings)
    values = merge(values, environment)
    given: dict[Key, str] = {}
    if queue is not None:
        values = merge(values, {"queue": {"url": queue}})
        given["queue", "url"] = "--queue"
    by = "--relay"
    if relay is None and not values.get("transports"):
        relay, by = os.environ.get("SPOOLD_RELAY") or None, "SPOOLD_RELAY"
    if relay is not None:
        try:
            transports = {**_table(values.get("transports")), "relay": {"type": "smtp", **relay_options(relay)}}
            values = {**values, "transports": transports, "routes": [{"transports": ["relay"]}]}
            given["transports", "relay"] = given["routes",] = by
        except ValueError as error:
            problems.append(f"{by}: {error}")
    sources = Sources(path, lines, variables, given)
    return _validated(values, sources, problems, check_transport)


def _validated(
    values: dict[str, Any], sources: Sources, problems: list[str], check_transport: CheckTransport | None
) -> Settings:
    settings = None
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems.extend(problem(details, sources.where, _known_keys) for details in error.errors())
    problems.extend(_unknown_transports(values, sources))
    if check_transport is not None:
        for name, transport in _table(values.get("transports")).items():
            try:
                checked = TransportSettings.model_validate(transport)
            except ValidationError:
                continue  # reported above
            problems.extend(check_transport(name, checked, sources.where))
    if problems or settings is None:
        raise ConfigurationError("\n".join(sorted(problems, key=_line)))
    settings._sources = sources  # noqa: SLF001 - its own module's other half
    return settings


def _line(problem: str) -> int:
    """Its line in the file; what has none comes first."""
    found = re.match(r"[^:]*:(\d+): ", problem)
    return int(found[1]) if found else 0


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _unknown_transports(values: Mapping[str, Any], sources: Sources) -> Iterator[str]:
    known = _table(values.get("transports"))
    routes = values.get("routes")
    for index, route in enumerate(routes if isinstance(routes, list) else ()):
        names = _table(route).get("transports")
        for name in names if isinstance(names, list | tuple) else ():
            if isinstance(name, str) and name not in known:
                key = ("routes", index, "transports")
                there = ", ".join(known) or "none"
                yield (
                    f"{sources.where(*key)}: {path_of(key)}: there is no transport {shown(name)}: "
                    f"add its [transports.NAME], or name one of: {there}"
                )


# -- errors as lines ---------------------------------------------------------------------------------------------------


def path_of(key: Iterable[str | int]) -> str:
    """A key as people write it: retry.first, routes[0].transports."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def problem(
    details: ErrorDetails,
    where: Callable[..., str],
    known_keys: Callable[[Key], Iterable[str]],
    above: Key = (),
    secrets: Collection[str | int] = (),
) -> str:
    """One error of pydantic as a line: where, key, value unless it is secret, what to do."""
    key = (*above, *(part for part in details["loc"] if part != "[key]"))
    kind, value = details["type"], details["input"]
    line = f"{where(*key)}: {path_of(key)}"
    if kind == "missing":
        return f"{line}: is missing: add it"
    if kind == "extra_forbidden":
        known = list(known_keys(key[:-1]))
        close = difflib.get_close_matches(str(key[-1]), known, 1, 0.75)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"{line}: unknown {'key' if key[1:] else 'section'}: {hint}"
    if details["loc"] and "[key]" not in details["loc"] and not isinstance(value, dict | BaseModel):
        secret = any(is_secret(str(part)) or part in secrets for part in key)
        line += " = (not shown)" if secret else f" = {shown(value)}"
    return f"{line}: {_advice(details)}"


def _advice(details: ErrorDetails) -> str:
    if details["type"] in ("literal_error", "enum"):
        return f"give one of {details.get('ctx', {}).get('expected', '')}".replace(" or ", ", ").replace("'", '"')
    text = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.replace("Input should be ", "it must be ")
    return " ".join(text.split())


def _known_keys(above: Key) -> Iterable[str]:
    if not above:
        return Settings.model_fields
    field = Settings.model_fields.get(str(above[0]))
    annotation: Any = field.annotation if field is not None else None
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate.model_fields
    return ()
