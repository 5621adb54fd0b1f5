"""spoold hold, release and flush: what an operator does to what waits."""

from __future__ import annotations

import argparse

from spoold.cli.display import count, say
from spoold.cli.opening import open_spool


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the commands."""
    parser = commands.add_parser(
        "hold",
        help="keep recipients from being sent",
        description="Keep recipients from being sent until `spoold release`; one that is being handed over at this"
        " moment is not touched. Holds what is in the queue now, not what comes later.",
        epilog="example: spoold hold --destination example.com",
    )
    _add_selection(parser, "everything in the outgoing queue")
    parser.set_defaults(run=run_hold)

    parser = commands.add_parser(
        "release",
        help="let held recipients go on",
        description="Let held recipients go on, also those that were submitted with --hold.",
        epilog="example: spoold release --all",
    )
    _add_selection(parser, "everything that is held")
    parser.set_defaults(run=run_release)

    parser = commands.add_parser(
        "flush",
        help="make what is queued due now",
        description="Make what is queued due now, instead of at its next attempt. A message that was submitted with"
        " --send-at for a later time is sent early only if it is named.",
        epilog="example: spoold flush --destination example.com",
    )
    parser.add_argument("entry_ids", nargs="*", metavar="ENTRY_ID", help="none: everything")
    parser.add_argument("--destination", metavar="D", help="recipients at this domain, or routed to this destination")
    parser.add_argument("--transport", metavar="T", help="recipients that this transport tried last")
    parser.set_defaults(run=run_flush)


def _add_selection(parser: argparse.ArgumentParser, everything: str) -> None:
    parser.add_argument("entry_ids", nargs="*", metavar="ENTRY_ID")
    parser.add_argument("--destination", metavar="D", help="recipients at this domain, or routed to this destination")
    parser.add_argument("--transport", metavar="T", help="recipients that this transport tried last")
    parser.add_argument("--all", action="store_true", help=everything)


def run_hold(args: argparse.Namespace) -> int:
    """Hold."""
    with open_spool(args) as spool:
        held = spool.hold(*args.entry_ids, destination=args.destination, transport=args.transport, all=args.all)
    say(f"held {count(held, 'recipient')}")
    return 0


def run_release(args: argparse.Namespace) -> int:
    """Release."""
    with open_spool(args) as spool:
        released = spool.release(*args.entry_ids, destination=args.destination, transport=args.transport, all=args.all)
    say(f"released {count(released, 'recipient')}")
    return 0


def run_flush(args: argparse.Namespace) -> int:
    """Flush."""
    with open_spool(args) as spool:
        due = spool.flush(*args.entry_ids, destination=args.destination, transport=args.transport)
    say(f"made {count(due, 'recipient')} due now")
    return 0
