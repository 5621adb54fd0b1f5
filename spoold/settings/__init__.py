"""The configuration: one TOML file, `SPOOLD_SECTION__KEY` in the environment, and a few options over both.

    quantities    durations and sizes
    sources       the file and the environment, and where each key was found
    relay         --relay URL
    model         the sections and their keys
    reading       load: all of them merged and checked; every error with its key and line
    effective     what holds in the end, for people, secrets masked

Nothing here is imported by a process that only submits.
"""

from spoold.settings.effective import effective
from spoold.settings.model import (
    LogSettings,
    QueueSettings,
    RetrySettings,
    RouteSettings,
    Settings,
    SpoolerSettings,
    TransportSettings,
)
from spoold.settings.reading import load

__all__ = [
    "LogSettings", "QueueSettings", "RetrySettings", "RouteSettings", "Settings", "SpoolerSettings",
    "TransportSettings", "effective", "load",
]  # fmt: skip
