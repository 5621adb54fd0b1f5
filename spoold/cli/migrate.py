"""spoold migrate: create or upgrade the queue."""

from __future__ import annotations

import argparse

from spoold.cli.display import say
from spoold.cli.opening import queue_path
from spoold.store.database import create


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "migrate",
        help="create or upgrade the queue",
        description="Create the queue, or bring it up to this version's schema. `spoold run` does it too; nothing else"
        " creates a queue.",
        epilog="example: spoold --queue sqlite:////var/spool/spoold/queue.db migrate",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Create or upgrade, and say which of them it was."""
    where = queue_path(args)
    before, after = create(where)
    if before == after:
        say(f"{where.path} is up to date: schema {after}")
    elif before:
        say(f"{where.path} was upgraded from schema {before} to {after}")
    else:
        say(f"{where.path} was created with schema {after}")
    return 0
