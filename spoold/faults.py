"""Named points at which a test may stop the daemon. Off by default: reaching one does nothing."""

from __future__ import annotations

from enum import StrEnum


class Point(StrEnum):
    """Where the daemon can be stopped: what is true at that moment."""

    CLAIM_COMMITTED = "a claim is committed, nobody has been told"
    LOCK_COMMITTED = "a lock is committed, the dot is not yet sent"
    ACCEPTED = "the server has accepted, nothing is recorded"
    RESULT_COMMITTED = "a result is committed"
    CHECK_COMMITTED = "intake has claimed a message, its result is not written"


class Faults:
    """Does nothing; a test's subclass overrides `reach`."""

    def reach(self, point: Point) -> None:
        """Called at each point."""


NO_FAULTS = Faults()
