"""Which transport gets a recipient. Pure: first matching route, first transport in it that serves the address type."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from spoold.provider import ANY, Transport


@dataclass(frozen=True, slots=True)
class Route:
    """Patterns (shell globs, case-insensitive; None matches everything) and the transports to try, in order."""

    transports: tuple[str, ...]
    recipient: str | None = None
    sender: str | None = None
    address_type: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A transport, and what shares connections, limits and back-off there.

    `position`: how many transports of the route are behind us if this one declines; `more`: others follow.
    """

    transport: str
    destination: str
    position: int
    more: bool


class Router:
    """Routes over a set of transports. Made anew when the configuration changes."""

    def __init__(self, routes: Sequence[Route], transports: Mapping[str, Transport]) -> None:
        self._transports = transports
        self._routes = [
            (_matcher(route.recipient), _matcher(route.sender), _matcher(route.address_type), route.transports)
            for route in routes or [Route(tuple(transports))]
        ]

    def choose(
        self, sender: str, address: str, address_type: str, position: int, suspended: Callable[[str], bool]
    ) -> Choice | None:
        """The transport for a recipient that `position` transports of its route have declined; None: nobody serves it.

        A suspended transport is passed over if another one of the route can take its place.
        """
        serving = self._serving(sender, address, address_type)
        left = serving[position:]
        if not left:
            return None
        name = next((name for name in left if not suspended(name)), left[0])
        after = serving.index(name) + 1
        return Choice(name, self._transports[name].destination(address), after, after < len(serving))

    def _serving(self, sender: str, address: str, address_type: str) -> list[str]:
        for to, by, kind, names in self._routes:
            if (not to or to(address)) and (not by or by(sender)) and (not kind or kind(address_type)):
                return [name for name in names if self._serves(name, address_type)]
        return []

    def _serves(self, name: str, address_type: str) -> bool:
        types = self._transports[name].address_types
        return types == ANY or address_type in types


def _matcher(pattern: str | None) -> Callable[[str], object] | None:
    if pattern is None or pattern == "*":
        return None
    return re.compile(fnmatch.translate(pattern), re.IGNORECASE).match
