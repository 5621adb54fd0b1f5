"""Waiting for another process: it can only be looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T]) -> T:
    """The condition's value once it is true; the test's own time limit ends a vain wait."""
    while not (value := condition()):  # noqa: ASYNC110 - the event is in another process
        await asyncio.sleep(0.01)
    return value
