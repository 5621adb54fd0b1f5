"""Loads the named SQL files of this package: a query is a `-- name: NAME` line, a sentence, and the statement."""

from __future__ import annotations

import functools
import importlib.resources
import re
from types import SimpleNamespace

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@functools.cache
def load(file: str) -> SimpleNamespace:
    """The statements of one SQL file, as attributes by their names."""
    text = importlib.resources.files(__package__).joinpath(file).read_text("utf-8")
    parts = _NAME.split(text)[1:]
    statements = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        lines = (line for line in body.splitlines() if line and not line.lstrip().startswith("--"))
        statements[name] = "\n".join(lines)
    return SimpleNamespace(**statements)
