"""A daemon that kills itself with SIGKILL when it reaches a fault point for the nth time.

usage: python killed_daemon.py POINT COUNT [the arguments of spoold...]. POINT is a name of spoold.faults.Point.
"""

from __future__ import annotations

import functools
import os
import signal
import sys

from spoold.cli import main
from spoold.cli import run as command
from spoold.faults import Faults, Point


class KillAt(Faults):
    """SIGKILL at the nth time."""

    def __init__(self, point: Point, count: int) -> None:
        self._point = point
        self._left = count

    def reach(self, point: Point) -> None:
        if point is self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    name, count, *arguments = sys.argv[1:]
    command.run = functools.partial(command.run, faults=KillAt(Point[name], int(count)))
    sys.exit(main.main(arguments))
