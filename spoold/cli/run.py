"""spoold run: the spooler, in the foreground."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from spoold.faults import NO_FAULTS, Faults


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "run",
        help="the spooler, in the foreground",
        description="Take what is in the outgoing queue to the transports. SIGTERM and SIGINT stop it: what is in flight"
        " has [spooler] shutdown_grace to end, the rest is handed back. SIGHUP reads the configuration again.",
        epilog="example: spoold --queue sqlite:///queue.db run --relay 'smtp://127.0.0.1:2525?tls=none'",
    )
    parser.add_argument(
        "--relay",
        metavar="URL",
        help="hand everything to this server: smtp[s]://[user[:pass]@]host[:port][?tls=none|opportunistic|starttls|implicit]",
    )
    parser.add_argument("--drain", action="store_true", help="deliver all that is due now, then exit")
    parser.add_argument(
        "--restored",
        action="store_true",
        help="the queue comes from a backup: everything in it starts held and marked in doubt",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, faults: Faults = NO_FAULTS) -> int:
    """Run until stopped or drained. `faults` is for tests that stop the daemon at a named point."""
    signal.signal(signal.SIGTERM, _stop_before_anything_has_begun)
    import uvloop  # other commands start without these

    from spoold import eventlog, registry, settings
    from spoold.spooler.daemon import Daemon

    def load() -> settings.Settings:
        loaded = settings.load(args.config, args.queue, args.relay, check_transport=registry.check_transport)
        loaded.require_transports()
        return loaded

    loaded = load()
    eventlog.configure(loaded.log.format, loaded.log.level)
    uvloop.run(Daemon(loaded, reload=load, faults=faults).run(drain=args.drain, restored=args.restored))
    return 0


def _stop_before_anything_has_begun(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's
    """As PID 1 of a container a process ignores what it does not handle, and loading takes its time."""
    sys.exit(0)
