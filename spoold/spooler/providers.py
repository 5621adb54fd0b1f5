"""The transports of this spooler and how they stand: ready, or suspended until they validate again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from spoold import eventlog
from spoold.backoff import Backoff
from spoold.clock import Clock
from spoold.provider import Status, Transport, TransportFault
from spoold.spooler.ledger import Ledger
from spoold.store.session import Session
from spoold.store.spooling import SQL


class Providers:
    """Suspends and resumes transports, and keeps their status rows."""

    def __init__(
        self,
        transports: dict[str, Transport],
        ledger: Ledger,
        backoff: Backoff,
        clock: Clock,
        *,
        resumed: Callable[[], None],
        closed: Callable[[str], None],
    ) -> None:
        """`resumed` is called when a suspended transport is well again, `closed(name)` when one has been suspended.

        `backoff` paces the probes.
        """
        self.transports = transports
        self._ledger = ledger
        self._backoff = backoff
        self._clock = clock
        self._resumed = resumed
        self._closed = closed
        self._reasons: dict[str, str] = {}
        self._news = asyncio.Event()
        self.token = 0

    def suspended(self, name: str) -> bool:
        """Whether the transport takes nothing at the moment."""
        return name in self._reasons

    def suspend(self, name: str, reason: str) -> None:
        """The provider cannot work at all: its mail waits, or goes to the next one in the route."""
        if name not in self._reasons:
            self._reasons[name] = reason
            eventlog.transport_suspended(transport=name, reason=reason)
            self._closed(name)
            self._news.set()

    def look_again(self) -> None:
        """Validate what is suspended at once: after a reload, a flush."""
        if self._reasons:
            self._news.set()

    async def logon(self) -> None:
        """Open all of them; one that fails is suspended, not fatal."""
        self._reasons = await _logon(self.transports)
        await self.report()

    async def exchange(self, transports: Mapping[str, Transport]) -> list[Transport]:
        """Open these and let them take the place of the others, which are returned: they may still be delivering."""
        reasons = await _logon(transports)
        old = list(self.transports.values())
        self.transports.clear()
        self.transports.update(transports)
        self._reasons = reasons
        self._news.set()
        return old

    async def logoff(self) -> None:
        """Close all of them."""
        for name, transport in self.transports.items():
            await logoff(name, transport)

    async def report(self) -> None:
        """Write a status row for each transport."""
        now, token, reasons = self._clock.now(), self.token, dict(self._reasons)

        async def rows(session: Session) -> None:
            for name in self.transports:
                state = "suspended" if name in reasons else "ready"
                await session.rows(SQL.transport_state, (name, token, state, reasons.get(name, ""), now))

        await self._ledger.write(rows)

    async def run(self) -> None:
        """Probe what is suspended until it is well again, for ever."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            if not self._reasons:
                failures = 0
                await self._news.wait()
                self._news.clear()
                await self.report()
                failures = 1
            timer = loop.call_later(self._backoff.delay(failures, self._clock.random()), self._news.set)
            await self._news.wait()
            timer.cancel()
            self._news.clear()
            for name in list(self._reasons):
                probed = self.transports.get(name)
                status = await _validate(probed) if probed is not None else Status(True)
                if self.transports.get(name) is not probed:
                    continue  # exchanged meanwhile
                if status.ok:
                    self._reasons.pop(name, None)
                    eventlog.transport_resumed(transport=name)
                    self._resumed()
                elif name in self._reasons:
                    self._reasons[name] = status.reason
            await self.report()
            failures += 1


async def _logon(transports: Mapping[str, Transport]) -> dict[str, str]:
    """Open transports; returns why those that failed are suspended."""
    reasons = {}
    for name, transport in transports.items():
        try:
            await transport.logon()
        except Exception as error:  # noqa: BLE001 - a stranger's provider may raise anything
            reasons[name] = _reason(error)
            eventlog.transport_suspended(transport=name, reason=reasons[name])
    return reasons


async def _validate(transport: Transport) -> Status:
    try:
        return await transport.validate()
    except Exception as error:  # noqa: BLE001 - as above
        return Status(False, _reason(error))


async def logoff(name: str, transport: Transport) -> None:
    """Close one; its bugs are logged."""
    try:
        await transport.logoff()
    except Exception as error:  # noqa: BLE001 - as above
        eventlog.provider_bug(transport=name, error=error)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, TransportFault) else f"{type(error).__name__}: {error}"
