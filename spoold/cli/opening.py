"""Which queue a command works on, and opening it: without pydantic, so that submitting starts fast."""

from __future__ import annotations

import argparse
import os
from typing import Any

from spoold.client.spool import Spool
from spoold.errors import ConfigurationError
from spoold.store.database import QueuePath

DEFAULT_QUEUE = "sqlite:////var/spool/spoold/queue.db"
DEFAULT_FILES = ("spoold.toml", "/etc/spoold/spoold.toml")


def open_spool(args: argparse.Namespace) -> Spool:
    """The queue of the command line, the environment or the configuration. Raises ConfigurationError, QueueError's."""
    return Spool(queue_url(args), durability(args))


def queue_path(args: argparse.Namespace) -> QueuePath:
    """Where that queue is."""
    return QueuePath.of(queue_url(args))


def queue_url(args: argparse.Namespace) -> str:
    """--queue, else $SPOOLD_QUEUE__URL, else [queue] url, else the built-in default."""
    given = args.queue or os.environ.get("SPOOLD_QUEUE__URL")
    return given or _configured(args.config, "url") or DEFAULT_QUEUE


def durability(args: argparse.Namespace) -> str:
    """$SPOOLD_QUEUE__DURABILITY, else [queue] durability, else full."""
    found = os.environ.get("SPOOLD_QUEUE__DURABILITY") or _configured(args.config, "durability") or "full"
    if found not in ("full", "normal"):
        raise ConfigurationError(f"queue.durability = {found!r}: give one of full, normal")
    return found


def _configured(config: str | None, key: str) -> str | None:
    """A text of the [queue] section."""
    named = config or os.environ.get("SPOOLD_CONFIG")
    for path in (named,) if named else DEFAULT_FILES:
        try:
            section = _read(path).get("queue", {})
        except FileNotFoundError:
            continue
        except PermissionError as error:
            if not named:  # what others may not read, with its passwords, does not keep them from submitting
                return None
            raise _unreadable(path, error) from error
        except OSError as error:
            raise _unreadable(path, error) from error
        value = section.get(key) if isinstance(section, dict) else section
        if value is not None and not isinstance(value, str):
            raise ConfigurationError(f"{path}: queue.{key} = {value!r:.80}: give text in quotes")
        return value
    if named:
        by = "--config" if config else "$SPOOLD_CONFIG"
        raise ConfigurationError(f"{named}: no such file: correct {by}")
    return None


def _unreadable(path: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{path}: cannot be read: {error.strerror}: correct its permissions or --config")


def _read(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        import tomllib

        try:
            return tomllib.loads(file.read().decode("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path}: not valid TOML: {error}") from error
