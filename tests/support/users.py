"""Being somebody who is not root, where the tests run as root."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534


@contextlib.contextmanager
def not_root() -> Iterator[Path]:
    """A folder that everybody may enter; inside, this process has no more rights than others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield Path(folder)
        finally:
            os.setresuid(0, 0, 0)


@contextlib.contextmanager
def as_owner() -> Iterator[None]:
    """Inside of `not_root`: what the folder's owner does."""
    user, _, saved = os.getresuid()
    if saved == 0:
        os.setresuid(0, 0, 0)
    try:
        yield
    finally:
        os.setresuid(user, user, saved)
