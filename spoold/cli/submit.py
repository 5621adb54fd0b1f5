"""spoold submit: one message from a file or standard input into the outgoing queue."""

from __future__ import annotations

import argparse
import os
import sys

from spoold.cli.display import complain, note
from spoold.cli.opening import open_spool
from spoold.client.spool import Spool
from spoold.errors import NoAccess, NotFound, NotInQueue, UnableToAbort, Unavailable, UsageError, WaitTimeout
from spoold.store.records import MessageRecord

PARTIAL = 5
# what --wait makes of the message's state
ENDS = {
    "sent": 0,
    "partial": PARTIAL,
    "failed": Unavailable.exit_code,
    "aborted": NotInQueue.exit_code,
    "in_doubt": UnableToAbort.exit_code,
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "submit",
        help="place a message in the outgoing queue",
        description="Place one RFC 5322 message in the outgoing queue. Prints the entry id, alone on one line, once the"
        " message is safely stored; no spooler needs to run for that. Exit codes: 65 the message cannot be sent as it"
        " is, 66 no such file, 69 no queue, 75 busy or full: try again, 77 no permission. With --wait: 0 sent to"
        " everybody, 5 to some, 69 failed, 3 aborted, 4 in doubt, 75 not settled in time.",
        epilog="example: spoold submit -f app@example.com -r ann@example.com --send-at +10m message.eml",
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="the message (none, or -: standard input)")
    parser.add_argument(
        "-f", "--sender", metavar="ADDRESS", help="the reverse-path, where reports go (else Sender, From)"
    )
    parser.add_argument(
        "-r", "--recipient", action="append", metavar="ADDRESS", help="may be repeated (else To, Cc and Bcc)"
    )
    parser.add_argument("--send-at", metavar="TIME", help="not before: ISO 8601, or +10m")
    parser.add_argument("--expires", metavar="TIME", help="give up after: ISO 8601, or +2d")
    parser.add_argument("--priority", choices=("high", "normal", "low"), default="normal")
    parser.add_argument("--key", help="the same key again prints the first entry id and sends nothing")
    parser.add_argument("--hold", action="store_true", help="store it, but send it only after `spoold release`")
    parser.add_argument("--sent-folder", metavar="NAME", help="file it there after it was sent")
    parser.add_argument("--delete-after-submit", action="store_true", help="delete it as soon as everybody has it")
    parser.add_argument(
        "--wait", nargs="?", const="", metavar="SECONDS", help="then wait until every recipient is settled"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Submit, and wait if that was asked for."""
    file, wait, seconds = args.file, args.wait is not None, None
    if args.wait:
        seconds = _seconds(args.wait)
        if seconds is None and file is None:  # `submit --wait message.eml`: the file, not a time
            file = args.wait
        elif seconds is None:
            raise UsageError(f"--wait {args.wait!r}: give seconds, like --wait 30")
    with open_spool(args) as spool:
        entry_id = spool.submit(
            _read(file),
            sender="" if args.sender == "<>" else args.sender,
            recipients=args.recipient,
            send_at=args.send_at,
            expires=args.expires,
            priority=args.priority,
            key=args.key,
            hold=args.hold,
            sent_folder=args.sent_folder,
            delete_after_submit=args.delete_after_submit,
        )
        print(entry_id, flush=True)
        return _wait(spool, entry_id, seconds) if wait else 0


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    if not 0 <= seconds < 1e9:
        raise UsageError(f"--wait {text}: give seconds, like --wait 30")
    return seconds


def _wait(spool: Spool, entry_id: str, seconds: float | None) -> int:
    try:
        record = spool.wait(entry_id, seconds)
    except WaitTimeout as error:
        complain(str(error))
        return error.exit_code
    for line in _unsent(record):
        complain(line)
    return ENDS.get(record.state, 1)


def _unsent(record: MessageRecord) -> list[str]:
    return [
        f"{record.entry_id}: {r.address}: {r.state}{f': {r.last_reply}' if r.last_reply else ''}"
        for r in record.recipients
        if r.state not in ("sent", "expanded")
    ]


def _read(file: str | None) -> bytes:
    """The whole message, before any transaction begins."""
    if file is None or file == "-":
        if sys.stdin is None:
            raise NotFound("standard input is closed: give a FILE, or pipe the message in")
        if sys.stdin.isatty():
            note("spoold: reading the message from the terminal; Ctrl-D ends it")
        return sys.stdin.buffer.read()
    try:
        with open(file, "rb") as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise NotFound(f"{file}: no such file") from error
    except IsADirectoryError as error:
        raise NotFound(f"{file}: is a directory: give a file with one message") from error
    except PermissionError as error:
        raise NoAccess(f"{file}: may not be read by this user ({os.strerror(error.errno or 0)})") from error
    except (OSError, ValueError) as error:
        raise NotFound(f"{file}: cannot be read: {error}") from error
