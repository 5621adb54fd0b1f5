"""The lanes of one spooler: what is in hand for each destination, and the workers that attempt it.

A lane that waits, because its destination is down, holds up nobody: what it had in hand goes back to the queue under
the destination's name, where no claim looks before the lane opens again. A lane starts narrow and widens by one
worker with every success.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from spoold import eventlog
from spoold.backoff import Backoff
from spoold.clock import Clock
from spoold.lifecycle import Event
from spoold.provider import Deferred, Transport
from spoold.spooler.attempt import Attempts
from spoold.spooler.delivery import Delivery
from spoold.spooler.ledger import Ledger
from spoold.spooler.router import Choice
from spoold.store.spooling import Claimed, Result

FIRST_WIDTH = 2  # workers of a lane before its first success


@dataclass(eq=False, slots=True)
class Lane:
    """One destination: what is in hand for it and how it is doing. Times are monotonic seconds."""

    destination: str
    limit: int
    width: int = FIRST_WIDTH
    workers: int = 0
    waits_until: float = 0.0
    failures: int = 0
    ready: deque[Delivery] = field(default_factory=deque)


class Lanes:
    """Starts and ends the workers. `changed` is called when there is room for more, or something to look at."""

    def __init__(
        self,
        attempts: Attempts,
        ledger: Ledger,
        *,
        transports: Mapping[str, Transport],
        limits: Mapping[str, int],
        concurrency: int,
        backoff: Backoff,
        clock: Clock,
        suspend: Callable[[str, str], None],
        changed: Callable[[], None],
    ) -> None:
        """`limits`: workers per destination, by transport. `suspend(transport, reason)` is told of provider faults."""
        self._attempts = attempts
        self._ledger = ledger
        self._transports = transports
        self._limits = limits
        self._concurrency = concurrency
        self._backoff = backoff
        self._clock = clock
        self._suspend = suspend
        self._changed = changed
        self._lanes: dict[str, Lane] = {}
        self._starved: deque[Lane] = deque()  # lanes that want a worker while all are busy
        self._running: dict[asyncio.Task[None], Lane] = {}
        self._in_flight: dict[int, Delivery] = {}  # by recipient
        self._used: Counter[int] = Counter()  # attempts under way, by the transport object
        self._attempt_ended = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self.in_hand = 0  # recipients
        self.stopping = False

    def open(self, group: asyncio.TaskGroup) -> None:
        """Workers run in this group from now on."""
        self._group = group

    # -- what comes in -------------------------------------------------------------------------------------------------

    def waits(self, destination: str) -> float:
        """Seconds until the destination may be tried again; 0 if it may be tried now."""
        lane = self._lanes.get(destination)
        return max(0.0, lane.waits_until - self._clock.monotonic()) if lane else 0.0

    def room(self, destination: str, capacity: int) -> int:
        """How many more deliveries a lane takes, when `capacity` is shared by the lanes that are busy."""
        lane = self._lanes.get(destination)
        if lane is None:
            return capacity
        busy = sum(1 for other in self._lanes.values() if other.ready or other.workers)
        return max(2 * lane.limit, capacity // max(busy, 1)) - len(lane.ready)

    def starving(self, destination: str) -> bool:
        """Whether nothing is in hand there that a worker could begin with."""
        lane = self._lanes.get(destination)
        return lane is None or not lane.ready

    def put(self, delivery: Delivery) -> None:
        """Take a delivery in hand."""
        lane = self._lanes.get(delivery.destination)
        if lane is None:
            lane = self._lanes[delivery.destination] = Lane(delivery.destination, 0)
        lane.limit = self._limits[delivery.choice.transport]
        lane.ready.append(delivery)
        self.in_hand += len(delivery.claims)
        for claim in delivery.claims:
            self._in_flight[claim.id] = delivery
        self._start_workers(lane)

    def withdraw(self, recipients: Iterable[int]) -> None:
        """These were taken out of our hands: break off what works on them."""
        for id_ in recipients:
            delivery = self._in_flight.get(id_)
            if delivery is not None:
                delivery.break_off()

    def give_back(self, claims: Iterable[Claimed], token: int, choice: Choice) -> None:
        """Return claims to the queue, untried, under the destination's name."""
        self._ledger.settle(
            Result(
                c.id,
                token,
                Event.GIVE_BACK,
                None,
                choice.transport,
                choice.destination,
                entry_id=c.entry_id,
                address=c.address,
            )
            for c in claims
        )

    def shut(self, destination: str) -> None:
        """Take nothing for this destination before `reopen`."""
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = Lane(destination, limit=1)
        lane.waits_until = float("inf")
        self._empty(lane)

    def reopen(self) -> None:
        """Give destinations that wait another chance at once."""
        for lane in self._lanes.values():
            lane.waits_until = 0.0
            self._start_workers(lane)
        self._changed()

    def shut_transport(self, transport: str) -> None:
        """A transport is suspended: what is in hand for it goes back."""
        for lane in self._lanes.values():
            if any(delivery.choice.transport == transport for delivery in lane.ready):
                self.shut(lane.destination)

    # -- the workers ---------------------------------------------------------------------------------------------------

    def _start_workers(self, lane: Lane) -> None:
        wanted = min(lane.workers + len(lane.ready), lane.width, lane.limit) if not self.waits(lane.destination) else 0
        while lane.workers < wanted:
            if len(self._running) >= self._concurrency:
                if lane not in self._starved:
                    self._starved.append(lane)
                return
            assert self._group is not None
            lane.workers += 1
            task = self._group.create_task(self._work(lane))
            self._running[task] = lane

    async def _work(self, lane: Lane) -> None:
        try:
            while lane.ready and not self.stopping and lane.workers <= lane.width and not self.waits(lane.destination):
                delivery = lane.ready.popleft()
                transport = self._transports[delivery.choice.transport]
                self._used[id(transport)] += 1
                try:
                    ending = await self._attempts.attempt(delivery, transport)
                finally:
                    self._used[id(transport)] -= 1
                    self._attempt_ended.set()
                    self._done(delivery)
                if ending.fault is not None:
                    self._suspend(delivery.choice.transport, ending.fault)
                    self.shut(lane.destination)
                elif ending.down is not None:
                    self._close(lane, ending.down)
                elif ending.delivered:
                    lane.failures = 0
                    if lane.width < lane.limit:
                        lane.width += 1
                        self._start_workers(lane)
                self._changed()
        finally:
            lane.workers -= 1
            task = asyncio.current_task()
            if task is not None:
                del self._running[task]
            self._tidy(lane)
            self._changed()

    def _done(self, delivery: Delivery) -> None:
        self.in_hand -= len(delivery.claims)
        for claim in delivery.claims:
            if self._in_flight.get(claim.id) is delivery:
                del self._in_flight[claim.id]

    def _close(self, lane: Lane, down: Deferred) -> None:
        """The destination cannot be reached: let it be for a while."""
        if self.waits(lane.destination):
            return  # another worker found it out first
        lane.failures += 1
        seconds = self._backoff.delay(lane.failures, self._clock.random(), down.retry_after)
        lane.waits_until = self._clock.monotonic() + seconds
        lane.width = 1
        eventlog.destination_waits(destination=lane.destination, seconds=seconds, reply=down.reply)
        self._empty(lane)

    def _empty(self, lane: Lane) -> None:
        while lane.ready:
            delivery = lane.ready.popleft()
            self._done(delivery)
            self.give_back(delivery.claims, delivery.token, delivery.choice)

    def _tidy(self, lane: Lane) -> None:
        while self._starved and len(self._running) < self._concurrency:
            self._start_workers(self._starved.popleft())
        if lane.ready and not self.stopping:
            self._start_workers(lane)
        if (
            not (lane.ready or lane.workers or lane.failures or self.waits(lane.destination))
            and self._lanes.get(lane.destination) is lane
        ):
            del self._lanes[lane.destination]

    async def unused(self, transport: Transport) -> None:
        """Wait until no attempt uses the transport."""
        while self._used[id(transport)]:
            self._attempt_ended.clear()
            await self._attempt_ended.wait()

    # -- the end -------------------------------------------------------------------------------------------------------

    def drop_ready(self) -> None:
        """Give back what is in hand and not yet being attempted."""
        for lane in self._lanes.values():
            self._empty(lane)

    async def finish(self, grace: float | None) -> bool:
        """Wait for the attempts under way, at most `grace` seconds (None: break them off now); whether all ended."""
        tasks = set(self._running)
        if not tasks:
            return True
        _, late = await asyncio.wait(tasks, timeout=grace) if grace is not None else (set(), tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        return not late
