"""A spooler's life: the incarnation that all its claims carry, the lock file that proves it alive, its doorbell.

On one host the lock file is the proof: a lock that can be had means dead, at once. A stopped process keeps its lock;
it shows by a beat that does not change.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import Callable

from spoold.errors import CannotCreate
from spoold.store.database import QueuePath

SUN_PATH = 107  # octets of a socket's path


class Incarnation:
    """What stands beside the queue as long as a spooler lives: a locked file and a bound socket."""

    def __init__(self, where: QueuePath, mark: str, lock: int, bell: socket.socket) -> None:
        self.where = where
        self.mark = mark
        self._lock = lock
        self._bell = bell

    @classmethod
    def begin(cls, where: QueuePath) -> Incarnation:
        """Take the lock and hang up the bell, both usable by whoever may use the queue. Raises CannotCreate."""
        mark = secrets.token_hex(6)
        mode = os.stat(where.path).st_mode & 0o666
        path = where.beside(mark, "lock")
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.fchmod(lock, mode)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            bell = _hang_up(where.beside(mark, "bell"), mode)
        except OSError as error:
            raise CannotCreate(f"cannot create {path}: {error.strerror}: the spooler needs to write there") from error
        return cls(where, mark, lock, bell)

    def listen(self, rung: Callable[[], None]) -> None:
        """Call `rung` when somebody rings."""

        def drain() -> None:
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    self._bell.recv(16)
            rung()

        asyncio.get_running_loop().add_reader(self._bell, drain)

    def end(self) -> None:
        """Take everything down again."""
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().remove_reader(self._bell)
        self._bell.close()
        for what in ("bell", "lock"):
            with contextlib.suppress(OSError):
                os.unlink(self.where.beside(self.mark, what))
        os.close(self._lock)


def _hang_up(path: str, mode: int) -> socket.socket:
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        name = path if len(os.fsencode(path)) <= SUN_PATH else f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        bell.bind(name)
        os.chmod(path, mode)
    except BaseException:
        bell.close()
        raise
    finally:
        os.close(directory)
    return bell


def is_dead(where: QueuePath, mark: str) -> bool:
    """Whether the spooler with that mark is certainly gone: its lock can be had, or its file is not there."""
    try:
        lock = os.open(where.beside(mark, "lock"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # not ours to judge
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def clear_away(where: QueuePath, mark: str) -> None:
    """Remove what a dead spooler left beside the queue."""
    for what in ("bell", "lock"):
        with contextlib.suppress(OSError):
            os.unlink(where.beside(mark, what))
