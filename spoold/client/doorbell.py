"""Rings the spoolers' doorbells: one datagram to the socket of each. A lost ring is harmless; they look by themselves."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable

from spoold.store.database import QueuePath

SUN_PATH = 107  # octets of a socket's path


def ring(where: QueuePath, marks: Iterable[str]) -> None:
    """Wake the spoolers with these marks. Never waits, never raises."""
    for mark in marks:
        with contextlib.suppress(OSError, ValueError):
            _ring(where.beside(mark, "bell"))


def _ring(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as out:
        if len(os.fsencode(path)) <= SUN_PATH:
            out.sendto(b"\n", path)
            return
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            out.sendto(b"\n", f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
