"""Time and chance, passed in so that tests can hold them still."""

from __future__ import annotations

import random
import time


class Clock:
    """The machine's own clock and random numbers."""

    def now(self) -> int:
        """Milliseconds since 1970 UTC: what is stored and shown. It may jump."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never jump: what is waited for."""
        return time.monotonic()

    def random(self) -> float:
        """A number in [0, 1)."""
        return random.random()  # noqa: S311 - jitter, no secret
