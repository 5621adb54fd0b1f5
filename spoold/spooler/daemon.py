"""The composition root: makes the parts, ties them together, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import aiosqlite

from spoold import eventlog, registry
from spoold.clock import Clock
from spoold.errors import ConfigurationError
from spoold.faults import NO_FAULTS, Faults
from spoold.lifecycle import Event, State
from spoold.provider import Transport
from spoold.settings import Settings
from spoold.spooler.attempt import Attempts
from spoold.spooler.feeder import Feeder
from spoold.spooler.incarnation import Incarnation
from spoold.spooler.intake import Intake
from spoold.spooler.lanes import Lanes
from spoold.spooler.ledger import Ledger
from spoold.spooler.notify import notify, reloading, watchdog_interval
from spoold.spooler.providers import Providers, logoff
from spoold.spooler.router import Route, Router
from spoold.spooler.sweeper import Sweeper
from spoold.spooler.watcher import Watcher
from spoold.store import database, spooling
from spoold.store.database import QueuePath
from spoold.store.session import AsyncSession, queue_error
from spoold.store.spooling import SQL, Settled

READ_AHEAD = 2  # recipients in hand for each that can be attempted at once


class Daemon:
    """One spooler on one queue. `run()` returns when it was told to stop, or has drained."""

    def __init__(
        self,
        settings: Settings,
        *,
        reload: Callable[[], Settings] | None = None,
        clock: Clock | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        """`reload` reads the configuration again, for SIGHUP."""
        self._settings = settings
        self._reload = reload
        self._clock = clock or Clock()
        self._faults = faults
        self._stop = asyncio.Event()
        self._hang_up = asyncio.Event()
        self._where = QueuePath.of(settings.queue.url)
        self._incarnation: Incarnation | None = None
        self._token = 0
        self._group: asyncio.TaskGroup | None = None
        self._retiring: list[asyncio.Task[None]] = []
        self.started = asyncio.Event()

    # -- the whole life ------------------------------------------------------------------------------------------------

    async def run(self, *, drain: bool = False, restored: bool = False) -> None:
        """Spool until told to stop; with `drain` until nothing is due. Raises SpoolError's kinds.

        `restored`: the queue comes from a backup, and what it holds may have been delivered since.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):  # at once: as PID 1 nobody else would hear them
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up.set)
        transports = registry.build(self._settings)
        database.create(self._where)
        async with self._connection() as writer, self._connection(read_only=True) as reader:
            self._reader = reader
            self._compose(writer, transports)
            try:
                async with asyncio.TaskGroup() as group:
                    self._group = group
                    background = [group.create_task(self._ledger.run(), name="ledger")]
                    await self._begin()
                    if restored:
                        now = self._clock.now()
                        held = await self._ledger.write(lambda session: session.rows(SQL.hold_restored, (now,)))
                        eventlog.restored(count=len(held))
                    await self._providers.logon()  # before anything can be sent
                    background += self._start(group)
                    notify("READY=1", f"STATUS=spooling {self._where.path}")
                    self.started.set()
                    await self._until_done(drain)
                    await self._end()
                    for task in (*background, *self._retiring):
                        task.cancel()
            except* sqlite3.Error as failed:
                first = next(e for e in _leaves(failed) if isinstance(e, sqlite3.Error))
                raise queue_error(first, self._where.path) from first
            finally:
                if self._incarnation is not None:
                    self._incarnation.end()
        eventlog.spooler_stopped(incarnation=self._token)

    def stop(self) -> None:
        """Stop claiming, give what is in flight its grace, hand the rest back."""
        self._stop.set()

    @contextlib.asynccontextmanager
    async def _connection(self, read_only: bool = False) -> AsyncIterator[AsyncSession]:
        try:
            async with aiosqlite.connect(**database.connect_arguments(self._where)) as connection:
                connection.text_factory = database.readable
                for statement in database.pragmas(read_only=read_only):
                    await connection.execute(statement)
                yield AsyncSession(connection)
        except sqlite3.Error as error:
            raise queue_error(error, self._where.path) from error

    # -- composition ---------------------------------------------------------------------------------------------------

    def _compose(self, writer: AsyncSession, transports: dict[str, Transport]) -> None:
        settings, clock = self._settings, self._clock
        retry = settings.retry
        backoff, policy = retry.backoff, settings.queue.in_doubt
        self._transports = transports
        self._limits: dict[str, int] = {}
        self._read_limits()
        self._ledger = Ledger(
            writer, policy, clock, settled=self._settled, changed=self._others_committed, faults=self._faults
        )
        self._providers = Providers(
            transports, self._ledger, backoff, clock, resumed=self._reopen, closed=self._shut_transport
        )
        self._lanes = Lanes(
            Attempts(self._ledger, backoff, retry.give_up_after, clock, self._faults),
            self._ledger,
            transports=transports,
            limits=self._limits,
            concurrency=settings.spooler.concurrency,
            backoff=backoff,
            clock=clock,
            suspend=self._providers.suspend,
            changed=self._wake_feeder,
        )
        self._feeder = Feeder(
            self._ledger,
            self._reader,
            self._chunk,
            lanes=self._lanes,
            router=Router(_routes(settings), transports),
            suspended=self._providers.suspended,
            clock=clock,
            capacity=READ_AHEAD * settings.spooler.concurrency,
            give_up_after=retry.give_up_after,
            max_message_size=settings.queue.max_message_size,
        )
        self._intake = Intake(
            self._ledger,
            self._reader,
            self._chunk,
            clock,
            settings.queue.max_message_size,
            passed=self._feeder.knock,
            faults=self._faults,
        )
        self._watcher = Watcher(
            self._reader,
            placed=self._feeder.knock,
            unchecked=self._intake.wake,
            withdrawn=self._lanes.withdraw,
            flushed=self._flushed,
        )
        self._sweeper = Sweeper(
            self._where,
            self._ledger,
            self._reader,
            clock,
            policy=policy,
            lease=settings.spooler.lease,
            give_up_after=retry.give_up_after,
            longest_backoff=retry.max,
            freed=self._freed,
            declared_dead=self._begin_again,
        )

    def _read_limits(self) -> None:
        self._limits.clear()
        for name, transport in self._settings.transports.items():
            self._limits[name] = transport.concurrency or self._settings.spooler.per_destination

    async def _chunk(self, message: int, seq: int) -> bytes | None:
        rows = await self._reader.rows(SQL.chunk, (message, seq))
        return rows[0][0] if rows else None

    # -- beginning and end ---------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """A new incarnation: its lock file first, so that nobody takes it for dead."""
        self._incarnation = incarnation = Incarnation.begin(self._where)
        row = (socket.gethostname(), os.getpid(), incarnation.mark, self._clock.now())
        ((self._token,),) = await self._ledger.write(lambda session: session.rows(SQL.begin_incarnation, row))
        for part in (self._feeder, self._intake, self._sweeper, self._providers):
            part.token = self._token
        incarnation.listen(self._feeder.knock)
        eventlog.spooler_started(incarnation=self._token, queue=self._where.path)

    def _start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        self._lanes.open(group)
        self._intake.wake()
        parts = {
            "providers": self._providers.run(),
            "sweeper": self._sweeper.run(),
            "watcher": self._watcher.run(),
            "intake": self._intake.run(),
            "feeder": self._feeder.run(),
            "watchdog": self._watchdog(),
        }
        return [group.create_task(part, name=name) for name, part in parts.items()]

    async def _until_done(self, drain: bool) -> None:
        async with asyncio.TaskGroup() as waiting:
            reloads = waiting.create_task(self._reloads())
            stopped = waiting.create_task(self._stop.wait())
            drained = [waiting.create_task(self._drained())] if drain else []
            await asyncio.wait([stopped, *drained], return_when=asyncio.FIRST_COMPLETED)
            for task in (reloads, stopped, *drained):
                task.cancel()

    async def _end(self) -> None:
        notify("STOPPING=1")
        eventlog.spooler_stopping(reason="told to" if self._stop.is_set() else "drained", in_flight=self._lanes.in_hand)
        grace = self._settings.spooler.shutdown_grace
        try:
            async with asyncio.timeout(2 * grace + 5):  # an unwritable queue must not keep us from ending
                await self._quiesce(grace)
                await self._providers.logoff()
                policy, now = self._settings.queue.in_doubt, self._clock.now()
                await self._ledger.write(lambda s: spooling.recover(s, self._token, policy, "stopped", now))
        except TimeoutError:
            eventlog.queue_unwritable(error="what was in flight could not be recorded: it will be in doubt", retry_in=0)

    async def _quiesce(self, grace: float | None) -> None:
        """Claim nothing more, let what is in flight end, hand the rest back. `grace` in seconds, None: break off now."""
        self._feeder.stopped = self._intake.stopped = self._lanes.stopping = True
        self._lanes.drop_ready()
        await self._lanes.finish(grace)
        await self._ledger.flush()

    def _resume(self) -> None:
        self._feeder.stopped = self._intake.stopped = self._lanes.stopping = False
        self._feeder.knock()
        self._intake.wake()

    async def _begin_again(self) -> None:
        """Others took this spooler for dead and have freed what it had: drop all before the dot, start anew."""
        eventlog.spooler_declared_dead(incarnation=self._token)
        await self._quiesce(None)
        if self._incarnation is not None:
            self._incarnation.end()
        await self._begin()
        await self._providers.report()
        self._resume()

    async def _drained(self) -> None:
        """Returns when nothing is due any more."""
        while True:
            await self._feeder.idle.wait()
            await self._ledger.flush()
            ((_, unchecked),) = await self._reader.rows(SQL.look)
            quiet = self._feeder.idle.is_set() and not self._feeder.stopped
            if quiet and not (self._intake.busy or self._lanes.in_hand or unchecked):
                return
            await asyncio.sleep(0.01)

    async def _watchdog(self) -> None:
        interval = watchdog_interval()
        while interval is not None:
            notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    # -- what the parts tell each other --------------------------------------------------------------------------------

    def _settled(self, settled: Sequence[Settled]) -> None:
        """After a commit: the log, and what waits in the queue again."""
        for one in settled:
            _log(one, self._clock.now())
            result, after = one.result, one.after
            if after is not None and after.state is State.QUEUED:
                self._feeder.waiting(result.destination, result.due or 0)
            if result.event is Event.VIOLATION and result.transport is not None:
                self._providers.suspend(result.transport, "it reported an acceptance without a lock: mend the provider")

    def _others_committed(self) -> None:
        self._feeder.knock()
        self._watcher.wake()

    def _reopen(self) -> None:
        self._lanes.reopen()

    def _shut_transport(self, name: str) -> None:
        self._lanes.shut_transport(name)

    def _wake_feeder(self) -> None:
        self._feeder.wake()

    def _freed(self) -> None:
        self._feeder.search()
        self._intake.wake()

    def _flushed(self) -> None:
        self._lanes.reopen()
        self._providers.look_again()
        self._feeder.knock()

    # -- reload --------------------------------------------------------------------------------------------------------

    async def _reloads(self) -> None:
        while True:
            await self._hang_up.wait()
            self._hang_up.clear()
            if self._reload is None:
                continue
            reloading()
            try:
                settings = self._reload()
                transports = registry.build(settings)
            except ConfigurationError as error:
                eventlog.configuration_refused(errors=str(error).splitlines())
            else:
                await self._change(settings, transports)
                eventlog.configuration_reloaded()
            notify("READY=1")

    async def _change(self, settings: Settings, transports: Mapping[str, Transport]) -> None:
        """Transports, routes and the log's level change; the rest needs a restart.

        What is being attempted goes on to its end with the transport that it began with.
        """
        old = await self._providers.exchange(transports)
        self._settings = settings
        eventlog.configure(settings.log.format, settings.log.level)
        self._read_limits()
        self._feeder.router = Router(_routes(settings), self._transports)
        self._lanes.drop_ready()
        while await self._ledger.write(lambda session: session.rows(SQL.forget_routes, (1000,))):
            pass
        self._lanes.reopen()
        self._feeder.search()
        assert self._group is not None
        self._retiring.append(self._group.create_task(self._retire(old), name="retiring"))

    async def _retire(self, old: Sequence[Transport]) -> None:
        for transport in old:
            await self._lanes.unused(transport)
            await logoff("retired", transport)


def _routes(settings: Settings) -> list[Route]:
    return [
        Route(tuple(route.transports), route.recipient, route.sender, route.address_type) for route in settings.routes
    ]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _log(settled: Settled, now: int) -> None:
    result, after = settled.result, settled.after
    who: dict[str, Any] = {
        "entry_id": result.entry_id,
        "recipient": result.address,
        "transport": result.transport,
        "destination": result.destination,
    }
    if result.event is Event.VIOLATION:
        eventlog.lock_violation(**who, reply=result.reply, attempt=result.attempt)
    elif after is None:
        if result.event is Event.GIVE_BACK:
            eventlog.withdrawn(**who)
        else:
            eventlog.late_result(**who, reply=result.reply, outcome=result.event, attempt=result.attempt)
    elif after.state is State.SENT:
        eventlog.sent(**who, reply=result.reply, attempt=result.attempt)
    elif after.state is State.FAILED:
        eventlog.failed(**who, reply=result.reply, attempt=result.attempt)
    elif after.state is State.ABORTED:
        eventlog.withdrawn(**who, state=after.state)
    elif result.event is Event.DOUBT:
        eventlog.in_doubt(**who, reply=result.reply, attempt=result.attempt, state=after.state)
    elif result.event in (Event.DEFERRED, Event.NOT_MINE):
        retry_in = ((result.due or now) - now) / 1000
        eventlog.deferred(**who, reply=result.reply, attempt=result.attempt, retry_in=retry_in)
