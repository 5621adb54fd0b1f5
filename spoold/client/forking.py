"""A Spool survives os.fork, as web servers and multiprocessing call it: a connection to SQLite does not.

A process that inherits one loses the locks that it believes to hold, and can so destroy what others write, also through
connections that it opens afterwards. Every Spool therefore closes its connection before a fork, and opens another one,
in parent and child alike, when it is used again.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something with a connection."""

    def before_fork(self) -> None:
        """Wait for what is going on, close the connection, and let nothing begin."""

    def after_fork(self) -> None:
        """Go on."""


_all: weakref.WeakSet[Forked] = weakref.WeakSet()
_stopped: list[Forked] = []


def survive(spool: Forked) -> None:
    """Keep `spool` whole across forks as long as it exists."""
    _all.add(spool)


def _before() -> None:
    _stopped.extend(_all)
    for spool in _stopped:
        spool.before_fork()


def _after() -> None:
    while _stopped:
        _stopped.pop().after_fork()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
