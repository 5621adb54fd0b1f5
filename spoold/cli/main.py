"""spoold: finds the command, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from spoold.cli.display import complain
from spoold.errors import SpoolError, UsageError

# command: its module, and what it does
COMMANDS = {
    "run": ("run", "the spooler, in the foreground"),
    "submit": ("submit", "place a message in the outgoing queue"),
    "abort": ("abort", "withdraw messages from the outgoing queue"),
    "list": ("reading", "the outgoing queue, in order"),
    "show": ("reading", "one message: properties, recipients, timeline"),
    "events": ("reading", "the change feed"),
    "hold": ("operating", "keep recipients from being sent"),
    "release": ("operating", "let held recipients go on"),
    "flush": ("operating", "make what is queued due now"),
    "status": ("status", "counts, spoolers, transports; for health checks too"),
    "check": ("check", "validate the configuration"),
    "migrate": ("migrate", "create or upgrade the queue"),
    "sink": ("sink", "a capture SMTP server for trying things out"),
}
INTERRUPTED = 130  # as a shell reports SIGINT
BROKEN_PIPE = 141  # as a shell reports SIGPIPE


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the exit code of sysexits.h."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        complain(f"{message} (see `{self.prog} --help`)")
        self.exit(UsageError.exit_code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except SpoolError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_standard_output()
        return BROKEN_PIPE
    except OSError as error:
        complain(str(error))
        _drop_standard_output()
        return SpoolError.exit_code


def _run(arguments: Sequence[str]) -> int:
    args = _parser(_command(arguments)).parse_args(arguments)
    return int(args.run(args))


def _drop_standard_output() -> None:
    """What could not be written would otherwise be tried again when the interpreter ends."""
    if sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _command(arguments: Sequence[str]) -> str | None:
    """The command's name: the first argument that is neither a global option nor its value."""
    words = iter(arguments)
    for word in words:
        if word in ("--config", "--queue"):
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _global_options(parser: argparse.ArgumentParser, **how: Any) -> None:
    parser.add_argument("--config", metavar="FILE", **{
        "help": "the configuration (else $SPOOLD_CONFIG, ./spoold.toml, /etc/spoold/spoold.toml)", **how,
    })  # fmt: skip
    parser.add_argument("--queue", metavar="URL", **{
        "help": "the queue: sqlite:///relative.db, sqlite:////absolute.db or a path (else $SPOOLD_QUEUE__URL, [queue]"
        " url of the configuration, sqlite:////var/spool/spoold/queue.db)", **how,
    })  # fmt: skip


def _parser(command: str | None) -> Parser:
    parser = Parser(
        prog="spoold",
        description="A store-and-forward spooler for outgoing mail.",
        epilog="Each command has --help with an example: spoold submit --help",
    )
    _global_options(parser)
    parser.add_argument("--version", action="version", version=f"spoold {_version()}" if command is None else "")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    chosen = COMMANDS[command][0] if command in COMMANDS else None
    for name, (module, summary) in COMMANDS.items():
        if name == command:
            importlib.import_module(f"spoold.cli.{chosen}").add(commands)
            # people write global options behind the command too
            _global_options(commands.choices[name], default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        elif module != chosen:
            commands.add_parser(name, help=summary, add_help=False)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("spoold")
    except PackageNotFoundError:
        return "(not installed)"
