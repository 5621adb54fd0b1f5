"""spoold abort: withdraw messages from the outgoing queue, and say truly what became of each recipient."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator

from spoold.cli.display import complain, note, say, say_json
from spoold.cli.opening import open_spool
from spoold.client.spool import Spool
from spoold.errors import (
    AbortError,
    AbortResult,
    NotFound,
    NotInQueue,
    SpoolError,
    UnableToAbort,
    UsageError,
    WaitTimeout,
)

PARTIAL = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What `--json` shows of one message. `code` is MAPI's name for the answer, `state` the message's."""

    entry_id: str
    code: str
    state: str | None
    aborted: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()


EXIT_CODES = {
    "S_OK": 0,
    NotInQueue.code: NotInQueue.exit_code,
    UnableToAbort.code: UnableToAbort.exit_code,
    "MAPI_W_PARTIAL_COMPLETION": PARTIAL,
    NotFound.code: NotFound.exit_code,
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "abort",
        help="withdraw messages from the outgoing queue",
        description="Withdraw what can still be withdrawn: no server has said yes to those recipients, or ever will."
        " Exit codes: 0 everything was withdrawn; 3 nothing was left to withdraw; 4 nothing was withdrawn, what is left"
        " is being handed over at this moment or in doubt; 5 a part was withdrawn; 66 no such message. Of several"
        " messages: the highest.",
        epilog="example: spoold abort --wait 30 01987b5e0f6b7c3e9d2a4b6c8e0f1a2b",
    )
    parser.add_argument("entry_ids", nargs="*", metavar="ENTRY_ID")
    parser.add_argument("--all", action="store_true", help="everything in the outgoing queue")
    parser.add_argument("--sender", metavar="ADDRESS", help="every message of this sender")
    parser.add_argument(
        "--destination", metavar="D", help="every recipient at this domain, or routed to this destination"
    )
    parser.add_argument(
        "--wait", type=float, metavar="SECONDS", help="wait for recipients that are just being handed over"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON for each message")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Withdraw, one message after the other or by condition."""
    chosen = args.all or args.sender is not None or args.destination is not None
    if bool(args.entry_ids) == chosen:
        raise UsageError("name entry ids, or --all, --sender or --destination")
    if args.wait is not None and not 0 <= args.wait < 1e9:
        raise UsageError(f"--wait {args.wait}: give seconds, like --wait 30")
    highest, answered = 0, 0
    with open_spool(args) as spool:
        answers = _matching(spool, args) if chosen else (_abort(spool, entry_id) for entry_id in args.entry_ids)
        for answer, error in answers:
            if args.wait is not None and answer.locked:
                answer, error = _after_waiting(spool, answer, args.wait), None  # noqa: PLW2901 - the answer after it
            _print(answer, error, args.json)
            highest = max(highest, EXIT_CODES[answer.code])
            answered += 1
    if not answered:
        note("spoold: nothing in the outgoing queue matches")
    return highest


def _abort(spool: Spool, entry_id: str) -> tuple[Answer, SpoolError | None]:
    try:
        return _answer(spool, entry_id, spool.abort(entry_id)), None
    except AbortError as error:
        return Answer(entry_id, error.code, error.state, *dataclasses.astuple(error.result)), error
    except NotFound as error:
        return Answer(entry_id, error.code, None), error


def _matching(spool: Spool, args: argparse.Namespace) -> Iterator[tuple[Answer, SpoolError | None]]:
    for batch in spool.abort_batches(sender=args.sender, destination=args.destination, all_=args.all):
        for entry_id, result in batch.aborted:
            yield _answer(spool, entry_id, result), None


def _answer(spool: Spool, entry_id: str, result: AbortResult) -> Answer:
    state = None
    with contextlib.suppress(NotFound):
        state = spool.get(entry_id).state
    if result.aborted:
        code = "MAPI_W_PARTIAL_COMPLETION" if result.partial else "S_OK"
    else:
        code = UnableToAbort.code if result.locked or result.in_doubt else NotInQueue.code
    return Answer(entry_id, code, state, *dataclasses.astuple(result))


def _after_waiting(spool: Spool, answer: Answer, seconds: float) -> Answer:
    """The answer once those that were locked have an end: aborted after all, sent, failed or in doubt."""
    try:
        record = spool.wait(answer.entry_id, seconds)
    except WaitTimeout:
        record = spool.get(answer.entry_id)
    ends = {r.address: r.state for r in record.recipients if r.address in answer.locked}

    def those(state: str) -> tuple[str, ...]:
        return tuple(address for address in answer.locked if ends.get(address) == state)

    result = AbortResult(
        answer.aborted + those("aborted"),
        answer.sent + those("sent"),
        those("locked"),
        answer.in_doubt + those("in_doubt"),
    )
    return _answer(spool, answer.entry_id, result)


def _print(answer: Answer, error: SpoolError | None, as_json: bool) -> None:
    if as_json:
        say_json(answer)
    elif error is not None:
        complain(str(error))
    else:
        parts = [(what, getattr(answer, what)) for what in ("aborted", "sent", "locked", "in_doubt")]
        found = "; ".join(f"{what.replace('_', ' ')} {', '.join(addresses)}" for what, addresses in parts if addresses)
        say(f"{answer.entry_id}: {found or answer.state}")
