"""The configuration that holds in the end, as TOML that people read. Secrets are masked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from spoold.settings.model import Settings

MASK = "********"
_SECRET = re.compile(r"passw|passphrase|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)\S*@")  # to the last @: a password may hold what should have been encoded
_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def is_secret(key: str) -> bool:
    """Whether a key's name says that its value is secret; a `..._file` names a place."""
    return bool(_SECRET.search(key)) and not key.endswith("_file")


def shown(value: Any) -> str:
    """A value in one short line, credentials in an address masked."""
    text = _toml(value)
    return text if len(text) <= 100 else text[:97] + "..."


def effective(settings: Settings, options: Mapping[str, BaseModel] | None = None) -> str:
    """The whole configuration, defaults included; with the providers' validated options (the registry's) theirs too."""
    dumped = settings.model_dump(mode="json", exclude_none=True)
    routes = dumped.pop("routes") or ([{"transports": list(settings.transports)}] if settings.transports else [])
    blocks = [_block(f"[{section}]", dumped[section]) for section in ("queue", "spooler", "retry")]
    for name, transport in settings.transports.items():
        own = {"type": transport.type, "concurrency": transport.concurrency}
        validated = (options or {}).get(name)
        theirs = transport.options if validated is None else validated.model_dump(mode="json")
        values = {key: value for key, value in {**own, **theirs}.items() if value is not None}
        blocks.append(_block(f"[transports.{_key(name)}]", values))
    blocks.extend(_block("[[routes]]", route) for route in routes)
    blocks.append(_block("[log]", dumped["log"]))
    return "\n".join(blocks)


def _block(header: str, values: Mapping[str, Any]) -> str:
    return header + "\n" + "".join(f"{_key(key)} = {_value(key, value)}\n" for key, value in values.items())


def _value(key: str, value: Any) -> str:
    return _toml(MASK) if is_secret(key) else _toml(value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(value: str) -> str:
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in quoted)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(k))} = {_value(str(k), v)}" for k, v in value.items()) + " }"
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return _text(_USERINFO.sub(f"{MASK}@", str(value)))
