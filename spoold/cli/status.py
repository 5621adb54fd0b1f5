"""spoold status: how the queue stands, and whether a spooler lives."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Mapping

from spoold.cli.display import count, moment, say, say_json
from spoold.cli.opening import open_spool
from spoold.client.liveness import is_alive
from spoold.client.spool import Spool
from spoold.errors import Unavailable
from spoold.store import reading
from spoold.store.records import QueueStatus


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "status",
        help="counts, spoolers, transports; for health checks too",
        description="Counts by state, the age of the oldest message, the spoolers that live, and each transport with"
        " why it is suspended. With --ready: exit code 0 if a spooler lives, else 69.",
        epilog="example: spoold status --ready",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--ready", action="store_true", help="print nothing; only tell whether a spooler lives")
    how.add_argument("--json", action="store_true", help="one line of JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the status, or judge it."""
    with open_spool(args) as spool:
        if args.ready:
            return _ready(spool)
        status = spool.status()
        where = spool.where.path
    if args.json:
        say_json(status)
    else:
        say(f"queue:       {where}")
        for line in _lines(status):
            say(line)
    return 0


def _ready(spool: Spool) -> int:
    """Looks at the spoolers alone: a health check must not wait for counts."""
    found = spool.perform(lambda session: reading.spoolers(session, functools.partial(is_alive, spool.where)))
    if not any(spooler.alive for spooler in found):
        raise Unavailable(f"no spooler works on {spool.where.path}: start `spoold run`")
    return 0


def _lines(status: QueueStatus) -> Iterator[str]:
    oldest = f", the oldest {_age(status.oldest_age)}" if status.oldest_age is not None else ""
    yield f"outgoing:    {count(status.outgoing, 'message')}{oldest}"
    yield f"messages:    {_counts(status.messages, status.counted_to)}"
    yield f"recipients:  {_counts(status.recipients)} (of the outgoing ones)"
    if status.in_doubt:
        yield f"in doubt:    {count(status.in_doubt, 'recipient')} may have got a message already"
    for spooler in status.spoolers:
        life = "alive" if spooler.alive else "DEAD: what it had goes to the next spooler"
        yield f"spooler {spooler.id}:   pid {spooler.pid} on {spooler.host} since {moment(spooler.started)}, {life}"
    if not status.spoolers:
        yield "spoolers:    none; start one with `spoold run`"
    for transport in status.transports:
        reason = f": {transport.reason}" if transport.reason else ""
        yield f"transport {transport.name}: {transport.state} since {moment(transport.since)}{reason}"


def _counts(counts: Mapping[str, int], bound: int | None = None) -> str:
    shown = [
        f"{number}{'+' if bound is not None and number >= bound else ''} {state.replace('_', ' ')}"
        for state, number in counts.items()
        if number
    ]
    return ", ".join(shown) or "none"


def _age(seconds: float | None) -> str:
    left = int(seconds or 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if left >= 2 * length:
            return f"{left // length} {unit}"
    return f"{left} s"
