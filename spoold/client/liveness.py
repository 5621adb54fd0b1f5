"""Whether a spooler lives: it holds the lock on a file of its own beside the queue, as long as its process does."""

from __future__ import annotations

import fcntl
import os

from spoold.errors import NoAccess
from spoold.store.database import QueuePath


def is_alive(where: QueuePath, mark: str) -> bool:
    """Whether the lock of the spooler with that mark is held. Raises NoAccess where this user may not look."""
    path = where.beside(mark, "lock")
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise NoAccess(
            f"{path}: {error.strerror}: whether its spooler lives is for the queue's group to see"
        ) from error
    try:
        # a shared lock is refused by the spooler's own, and does not look like one to others who try
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
