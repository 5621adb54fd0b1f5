"""One attempt: one message, one transport, one destination. Open, send, lock, finish."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from spoold import eventlog
from spoold.backoff import Backoff
from spoold.clock import Clock
from spoold.errors import CorruptData
from spoold.faults import NO_FAULTS, Faults, Point
from spoold.lifecycle import Event
from spoold.provider import (
    Accepted,
    Deferred,
    InDoubt,
    NotMine,
    Outcome,
    Recipient,
    Rejected,
    Reply,
    Transport,
    TransportFault,
    Withdrawn,
)
from spoold.spooler.delivery import Delivery
from spoold.spooler.ledger import Ledger
from spoold.store.spooling import Claimed, Result


@dataclass(frozen=True, slots=True)
class Ending:
    """What an attempt tells the lane that it ran in. `down`: the destination as a whole cannot be reached."""

    delivered: bool = False
    down: Deferred | None = None
    fault: str | None = None


class Attempts:
    """Makes attempts and records what became of them."""

    def __init__(
        self,
        ledger: Ledger,
        backoff: Backoff,
        give_up_after: float,
        clock: Clock,
        faults: Faults = NO_FAULTS,
    ) -> None:
        """`give_up_after` in seconds since the message was to be sent."""
        self._ledger = ledger
        self._backoff = backoff
        self._give_up_after = int(give_up_after * 1000)
        self._clock = clock
        self._faults = faults

    async def attempt(self, delivery: Delivery, transport: Transport) -> Ending:
        """Hand one delivery to its transport and record an outcome for every recipient, whatever happens."""
        outcomes: Mapping[Recipient, Outcome] = {}
        otherwise: Outcome | None = None
        ending = Ending()
        scope = delivery.scope()
        try:
            if delivery.withdrawn:
                return ending
            async with scope:
                outcomes = _checked(await transport.deliver(delivery))
            otherwise = Deferred(Reply.local("4.3.5", "the transport gave no result"))
            self._faults.reach(Point.ACCEPTED)
        except Withdrawn:
            pass
        except TransportFault as fault:
            otherwise = Deferred(Reply.local("4.3.5", str(fault)))
            ending = Ending(fault=str(fault))
        except CorruptData as error:
            otherwise = Rejected(Reply.local("5.6.0", str(error)))
        except TimeoutError as error:
            if not scope.expired():  # else somebody was withdrawn, and the attempt broken off
                otherwise = self._bug(delivery, error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            otherwise = self._bug(delivery, error)  # nobody has cancelled: it is the provider's own
        except Exception as error:  # noqa: BLE001 - a stranger's provider may raise anything
            otherwise = self._bug(delivery, error)
        finally:
            self._ledger.settle(self._results(delivery, outcomes, otherwise))
        if ending.fault is None:
            down = next((o for o in outcomes.values() if isinstance(o, Deferred) and o.destination_down), None)
            ending = Ending(delivered=down is None and bool(outcomes), down=down)
        return ending

    def _bug(self, delivery: Delivery, error: BaseException) -> Outcome:
        eventlog.provider_bug(
            entry_id=delivery.entry_id,
            transport=delivery.choice.transport,
            destination=delivery.destination,
            error=error,
        )
        return Deferred(Reply.local("4.3.0", f"internal error of the transport: {type(error).__name__}"))

    def _results(
        self, delivery: Delivery, outcomes: Mapping[Recipient, Outcome], otherwise: Outcome | None
    ) -> list[Result]:
        results = []
        for claim, recipient in zip(delivery.claims, delivery.recipients, strict=True):
            locked = claim.id in delivery.locked
            # what the provider says of a recipient decides; what merely happened decides only before the lock
            outcome = outcomes.get(recipient) or (InDoubt("it was broken off") if locked else otherwise)
            results.append(self._result(delivery, claim, outcome, locked))
        return results

    def _result(self, delivery: Delivery, claim: Claimed, outcome: Outcome | None, locked: bool) -> Result:
        event, counts = Event.GIVE_BACK, True
        reply: Reply | None = None
        due: int | None = None
        position: int | None = None
        match outcome:
            case None:
                counts = False
            case Accepted() | InDoubt() if not locked:
                event, reply = Event.VIOLATION, Reply.local("5.3.5", "accepted without a lock: may have been delivered")
            case Accepted(reply):
                event = Event.ACCEPTED
            case Rejected(reply):
                event = Event.REJECTED
            case Deferred(reply, asked):
                due = self._due(claim, asked)
                event = Event.EXPIRE if due >= last_moment(claim, self._give_up_after) else Event.DEFERRED
            case NotMine(reason) if delivery.choice.more and not locked:
                event, position, counts = Event.NOT_MINE, delivery.choice.position, False
                reply = Reply.local("5.4.4", f"{delivery.choice.transport} does not take it: {reason}")
            case NotMine(reason):
                event, reply = Event.REJECTED, Reply.local("5.4.4", f"no transport takes it: {reason}")
            case InDoubt(reason):
                event, reply = Event.DOUBT, Reply.local("4.4.2", f"may have been delivered: {reason}")
                due = self._due(claim)
        return Result(
            recipient_id=claim.id,
            token=delivery.token,
            event=event,
            reply=reply,
            transport=delivery.choice.transport,
            destination=None if event is Event.NOT_MINE else delivery.destination,
            due=due,
            counts=counts,
            route_position=position,
            entry_id=claim.entry_id,
            address=claim.address,
            attempt=claim.attempts + counts,
        )

    def _due(self, claim: Claimed, asked: float | None = None) -> int:
        delay = self._backoff.delay(claim.attempts + 1, self._clock.random(), asked)
        return self._clock.now() + int(delay * 1000)


_OUTCOMES = (Accepted, Deferred, Rejected, NotMine, InDoubt)


def _checked(outcomes: object) -> Mapping[Recipient, Outcome]:
    """What a provider returned, if it is what it promised. Raises TypeError."""
    if not isinstance(outcomes, Mapping):
        raise TypeError(f"deliver() returned {type(outcomes).__name__}, not a mapping of recipients to outcomes")
    for outcome in outcomes.values():
        reply = getattr(outcome, "reply", None)
        if not isinstance(outcome, _OUTCOMES) or not (reply is None or isinstance(reply, Reply)):
            raise TypeError(f"deliver() returned {outcome!r:.100}, which is no outcome")
    return outcomes


def last_moment(claim: Claimed, give_up_after: int) -> int:
    """When a recipient is given up, in milliseconds: by the submitter's wish, or by the policy."""
    given_up = claim.begun + give_up_after
    return given_up if claim.expires is None else min(given_up, claim.expires)
