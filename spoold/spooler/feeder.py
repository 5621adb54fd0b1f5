"""Claims what is due, fairly, and puts it into the lanes.

What no router has seen yet waits in the queue without a destination: the front door. What was routed before and waits
for its lane, or for its next attempt, carries its destination's name. A claim always asks for one of the two, so that
a million recipients waiting for one destination are never looked at while others are served.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from itertools import groupby

from spoold.clock import Clock
from spoold.lifecycle import Event
from spoold.provider import Reply
from spoold.spooler.attempt import last_moment
from spoold.spooler.delivery import Delivery, ReadChunk
from spoold.spooler.lanes import Lanes
from spoold.spooler.ledger import Ledger
from spoold.spooler.router import Choice, Router
from spoold.store import spooling
from spoold.store.session import Session
from spoold.store.spooling import Claimed, Result

FRONT_DOOR = None
MOST_RECIPIENTS = 100  # of one delivery: RFC 5321 4.5.3.1.8 makes every server take as many
PROBE = (0.1, 2.0)  # seconds between looks past full lanes: at first, at most; each finds others or doubles
PROBED = (50, 1000)  # recipients that such a look claims: at first, at most


class Feeder:
    """Decides what is claimed and when. `token` is the incarnation, and changes if it was declared dead."""

    def __init__(
        self,
        ledger: Ledger,
        reader: Session,
        read: ReadChunk,
        *,
        lanes: Lanes,
        router: Router,
        suspended: Callable[[str], bool],
        clock: Clock,
        capacity: int,
        give_up_after: float,
        max_message_size: int,
    ) -> None:
        """`capacity`: recipients in hand at most; `suspended(transport)` as the providers stand now.

        `give_up_after` in seconds, `max_message_size` in octets.
        """
        self._ledger = ledger
        self._reader = reader
        self._read = read
        self._lanes = lanes
        self.router = router
        self._suspended = suspended
        self._clock = clock
        self._capacity = capacity
        self._give_up_after = int(give_up_after * 1000)
        self._max_message_size = max_message_size
        self._wake = asyncio.Event()
        self._due: dict[str | None, int] = {}  # when the next recipient of a destination is due, as far as known
        self._next_probe = 0.0  # monotonic
        self._vain_probes = 0  # in a row
        self._search = True
        self._serial = itertools.count(1)
        self.token = 0
        self.stopped = False
        self.idle = asyncio.Event()

    # -- hints ---------------------------------------------------------------------------------------------------------

    def knock(self) -> None:
        """Something may have come in at the front door."""
        self._due[FRONT_DOOR] = 0
        self.wake()

    def wake(self) -> None:
        """There is room for more, or something else to look at."""
        self._wake.set()

    def search(self) -> None:
        """Others may have left something under any destination's name."""
        self._search = True
        self.knock()

    def waiting(self, destination: str | None, due: int) -> None:
        """Something waits in the queue under this name, due at that time (milliseconds)."""
        self._due[destination] = min(due, self._due.get(destination, due))
        self._wake.set()

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Feed the lanes, for ever. What the queue holds at the start is found by itself."""
        loop = asyncio.get_running_loop()
        self.knock()
        while True:
            if self._search:
                self._search = False
                await self._find_destinations()
            claimed = await self._feed() if not self.stopped else 0
            if claimed and self._lanes.in_hand < self._capacity // 2:
                continue
            timer = loop.call_later(self._pause(), self._wake.set)
            if not (self.stopped or self._wake.is_set() or self._lanes.in_hand):
                self.idle.set()
            await self._wake.wait()
            timer.cancel()
            self._wake.clear()
            self.idle.clear()

    async def _find_destinations(self) -> None:
        """Look which destinations have something waiting."""
        for (destination,) in await self._reader.rows(spooling.SQL.destinations):
            self._due[destination] = 0

    async def _feed(self) -> int:
        """One round over everything that may be due; returns how many recipients were claimed."""
        total = 0
        for destination in sorted(self._due, key=lambda name: (name is FRONT_DOOR, self._due[name])):
            limit = self._limit(destination)
            if limit <= 0:
                continue
            token = self.token * spooling.CLAIMS + next(self._serial)
            claims = await self._ledger.claim(token, destination, limit)
            total += len(claims)
            taken = self._distribute(claims, token)
            if destination is FRONT_DOOR:
                self._vain_probes = 0 if taken or not claims else self._vain_probes + 1
            if len(claims) < limit:
                await self._look_ahead(destination)
        return total

    def _limit(self, destination: str | None) -> int:
        """How many recipients to claim there now."""
        if self._due[destination] > self._clock.now():
            return 0
        room = self._capacity - self._lanes.in_hand
        if destination is not FRONT_DOOR:
            if self._lanes.waits(destination):
                return 0
            limit = min(room, self._lanes.room(destination, self._capacity))
            return limit if limit > self._capacity // 4 or self._lanes.starving(destination) else 0
        if room > self._capacity // 4:
            return room
        if self._clock.monotonic() < self._next_probe:
            return 0
        # behind what is for full lanes there may be others
        self._next_probe = self._clock.monotonic() + min(PROBE[0] * 2**self._vain_probes, PROBE[1])
        return int(min(PROBED[0] * 2**self._vain_probes, PROBED[1]))

    async def _look_ahead(self, destination: str | None) -> None:
        """Nothing more is due there: find out when it will be."""
        self._due.pop(destination, None)  # a hint that comes in meanwhile stands
        ((due,),) = await self._reader.rows(spooling.SQL.next_due, {"destination": destination})
        if due is not None:
            self._due[destination] = min(due, self._due.get(destination, due))

    def _pause(self) -> float:
        """Seconds until something is due that can be claimed then."""
        if self.stopped:
            return 60.0
        now, soonest = self._clock.now(), 60.0
        room = self._capacity - self._lanes.in_hand
        for destination, due in self._due.items():
            seconds = (due - now) / 1000
            if destination is FRONT_DOOR:
                if room <= self._capacity // 4:
                    seconds = max(seconds, self._next_probe - self._clock.monotonic())
            elif self._lanes.room(destination, self._capacity) <= 0:
                continue  # a worker that ends a delivery wakes us
            else:
                seconds = max(seconds, self._lanes.waits(destination))
            soonest = min(soonest, seconds)
        return max(soonest, 0.001)

    # -- distribution --------------------------------------------------------------------------------------------------

    def _distribute(self, claims: Sequence[Claimed], token: int) -> bool:
        """Group what was claimed into deliveries; what cannot be taken in hand goes back under its destination.

        Returns whether anything was taken in hand.
        """
        now, taken = self._clock.now(), False
        chosen: list[tuple[Claimed, Choice]] = []
        for claim in claims:
            if last_moment(claim, self._give_up_after) <= now:
                self._reject(claim, token, Event.EXPIRE, Reply.local("4.4.7", "delivery time expired"))
                continue
            if claim.size > self._max_message_size:
                text = f"the message has {claim.size} octets; max_message_size is {self._max_message_size}"
                self._reject(claim, token, Event.REJECTED, Reply.local("5.3.4", text))
                continue
            choice = self.router.choose(
                claim.sender, claim.address, claim.address_type, claim.route_position, self._suspended
            )
            if choice is None:
                reply = Reply.local("5.4.4", f"no route leads to a transport for this {claim.address_type} address")
                self._reject(claim, token, Event.REJECTED, reply)
            else:
                chosen.append((claim, choice))
        for (_, choice), group in groupby(chosen, key=lambda pair: (pair[0].message_id, pair[1])):
            mates = [claim for claim, _ in group]
            destination = choice.destination
            if self._suspended(choice.transport):
                self._lanes.shut(destination)
            full = self._lanes.room(destination, self._capacity) <= 0
            if full or self._lanes.waits(destination) or self.stopped:
                self._lanes.give_back(mates, token, choice)
                continue
            taken = True
            for start in range(0, len(mates), MOST_RECIPIENTS):
                part = mates[start : start + MOST_RECIPIENTS]
                self._lanes.put(Delivery(part, token, choice, self._ledger, self._read))
        return taken

    def _reject(self, claim: Claimed, token: int, event: Event, reply: Reply) -> None:
        self._ledger.settle(
            [
                Result(
                    claim.id,
                    token,
                    event,
                    reply,
                    entry_id=claim.entry_id,
                    address=claim.address,
                    attempt=claim.attempts,
                )
            ]
        )
