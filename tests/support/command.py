"""The real command, as a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS = ("SPOOLD_CONFIG", "SPOOLD_QUEUE__URL", "SPOOLD_QUEUE__DURABILITY")


class Ended:
    """What a command left behind: exit code, standard output, standard error."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.raw = out
        self.out = out.decode("utf-8", "surrogateescape")
        self.err = err.decode("utf-8", "surrogateescape")

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def entry_id(self) -> str:
        assert self.code == 0, self.err
        return self.out.removesuffix("\n")


class Command:
    """`spoold`, with a queue chosen by environment variable, in a folder of its own."""

    def __init__(self, folder: Path, queue: Path) -> None:
        self.folder = folder
        self.queue = queue
        self.environment = {name: value for name, value in os.environ.items() if name not in OURS}
        self.environment |= {"SPOOLD_QUEUE__URL": str(queue), "LC_ALL": "C.UTF-8"}

    def __call__(
        self, *arguments: str | bytes | Path, stdin: bytes = b"", environment: Mapping[str, str | None] = {}
    ) -> Ended:
        process = subprocess.run(
            [sys.executable, "-m", "spoold", *arguments],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=self.with_environment(environment),
            check=False,
        )
        return Ended(process.returncode, process.stdout, process.stderr)

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """The same, running; its standard input is empty."""
        return subprocess.Popen(
            [sys.executable, "-m", "spoold", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
        )

    def with_environment(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        """A value of None takes a variable away."""
        changed = {**self.environment, **changes}
        return {name: value for name, value in changed.items() if value is not None}
