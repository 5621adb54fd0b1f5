"""When a deferred recipient is due again. Pure: the attempt's number and a random number in, seconds out."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with a ceiling; all times in seconds. `jitter` 0.2 means +-20 %."""

    first: float = 60.0
    factor: float = 2.0
    maximum: float = 3600.0
    jitter: float = 0.2

    def delay(self, attempts: int, random: float, asked: float | None = None) -> float:
        """Seconds to wait after `attempts` failed attempts (1 for the first); `random` lies in [0, 1).

        What the other side asked for wins over our own figure, within the ceiling.
        """
        if asked is not None and math.isfinite(asked):
            return min(max(asked, 0.0), self.maximum)
        exponent = min(max(attempts - 1, 0), 64)  # beyond that every sensible factor has passed its ceiling
        plain = min(self.first * self.factor**exponent, self.maximum)
        return plain * (1 + self.jitter * (2 * random - 1))
