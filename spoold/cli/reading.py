"""spoold list, show and events: what is in the queue and what happened to it."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator

from spoold.cli.display import count, moment, note, reply, say, say_json, say_records, size
from spoold.cli.opening import open_spool
from spoold.client.operations import known_form
from spoold.client.spool import Spool
from spoold.store import reading
from spoold.store.records import MESSAGE_STATES, EventRecord, ListedMessage, MessageRecord

PAGE = 1000


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the commands."""
    parser = commands.add_parser(
        "list",
        help="the outgoing queue, in order",
        description="The outgoing queue in order of submission. A finished state lists the messages that ended so, in"
        " the order in which they ended; --all lists everything, in the order in which it was stored.",
        epilog="example: spoold list --destination example.com --json",
    )
    parser.add_argument("--state", choices=MESSAGE_STATES, metavar="STATE", help=", ".join(MESSAGE_STATES))
    parser.add_argument(
        "--destination", metavar="D", help="with a recipient at this domain, or routed to this destination"
    )
    parser.add_argument("--sender", metavar="ADDRESS", help="of this sender")
    parser.add_argument("--all", action="store_true", help="finished messages and drafts too")
    parser.add_argument("--limit", type=_number, metavar="N", help="at most so many")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each message")
    parser.set_defaults(run=run_list)

    parser = commands.add_parser(
        "show",
        help="one message: properties, recipients, timeline",
        description="One message: its properties, its recipients with their last reply, its timeline. Times are UTC.",
        epilog="example: spoold show --content 01987b5e0f6b7c3e9d2a4b6c8e0f1a2b > message.eml",
    )
    parser.add_argument("entry_id", metavar="ENTRY_ID")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--content", action="store_true", help="the message itself, as it was submitted")
    how.add_argument("--json", action="store_true", help="one line of JSON")
    parser.set_defaults(run=run_show)

    parser = commands.add_parser(
        "events",
        help="the change feed",
        description="What happened to messages and recipients, oldest first, each with its number.",
        epilog="example: spoold events --follow --after 1200 --json",
    )
    parser.add_argument("--after", type=_number, default=0, metavar="SEQ", help="only what came after this number")
    parser.add_argument("--follow", action="store_true", help="go on with what happens from now on, until interrupted")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each event")
    parser.set_defaults(run=run_events)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return int(text)


# -- list --------------------------------------------------------------------------------------------------------------


def run_list(args: argparse.Namespace) -> int:
    """Page by page, so that a long list costs neither memory nor the queue's health."""
    empty = True
    with open_spool(args) as spool:
        for page in spool.pages(
            state=args.state, destination=args.destination, sender=args.sender, all_=args.all, limit=args.limit
        ):
            empty = False
            if args.json:
                say_records(page)
            else:
                for message in page:
                    say(_row(message))
    if empty and not args.json:
        note(
            "spoold: no message matches"
            if args.state or args.destination or args.sender
            else "spoold: the queue is empty"
        )
    return 0


def _row(message: ListedMessage) -> str:
    to = [
        name
        for shown in (message.display_to, message.display_cc, message.display_bcc)
        if shown
        for name in shown.split("; ")
    ]
    more = f" +{len(to) - 1}" if to[1:] else ""
    return (
        f"{message.entry_id}  {message.state:<8}  {moment(message.client_submit_time)}  {size(message.message_size):>5}"
        f"  {message.sender or '<>'} -> {to[0] if to else '-'}{more}  {message.subject}"
    )


# -- show --------------------------------------------------------------------------------------------------------------


def run_show(args: argparse.Namespace) -> int:
    """The record, or the content as it was submitted."""
    with open_spool(args) as spool:
        if args.content:
            for piece in _pieces(spool, args.entry_id):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return 0
        record = spool.get(args.entry_id)
    if args.json:
        say_json(record)
    else:
        for line in _lines(record):
            say(line)
    return 0


def _pieces(spool: Spool, entry_id: str) -> Iterator[bytes]:
    id_ = known_form(entry_id)
    number = spool.perform(lambda session: reading.message_id(session, id_))
    for seq in itertools.count():
        piece = spool.perform(lambda session, seq=seq: reading.chunk(session, number, seq))  # type: ignore[misc]
        if piece is None:
            return
        yield piece


def _lines(record: MessageRecord) -> Iterator[str]:
    properties = {
        "entry id": record.entry_id,
        "state": record.state,
        "sender": record.sender or "<>",
        "subject": record.subject,
        "size": record.message_size,
        "submitted": moment(record.client_submit_time),
        "send at": moment(record.deferred_send_time),
        "expires": moment(record.expires_time),
        "priority": record.priority,
        "key": record.key,
        "sent folder": record.sent_folder,
        "flags": f"message {record.message_flags:#x}, submit {record.submit_flags:#x}",
    }
    for name, value in properties.items():
        if value not in (None, "-"):
            yield f"{name + ':':<13}{value}"
    yield "recipients:"
    for r in record.recipients:
        facts = [r.state, *(["in doubt: may have been delivered"] if r.in_doubt and r.state != "in_doubt" else [])]
        if r.attempts:
            facts.append(count(r.attempts, "attempt"))
        if r.next_attempt_time and r.state == "queued":
            facts.append(f"next {moment(r.next_attempt_time)}")
        if r.transport:
            facts.append(f"by {r.transport}")
        if r.destination:
            facts.append(f"to {r.destination}")
        yield f"  {r.kind:<4} {r.address}  {', '.join(facts)}"
        if r.last_reply:
            yield f"       {reply(r.last_reply)}"
    yield "timeline:"
    for event in record.events:
        yield f"  {moment(event.time)}  {_what(event)}"


# -- events ------------------------------------------------------------------------------------------------------------


def run_events(args: argparse.Namespace) -> int:
    """Everything after a number, and then what follows."""
    seq = args.after
    with open_spool(args) as spool:
        for _ in spool.changes() if args.follow else (None,):
            while page := spool.events(seq, PAGE):
                _print_events(page, args.json)
                seq = page[-1].seq
            sys.stdout.flush()
    return 0


def _print_events(events: Iterable[EventRecord], as_json: bool) -> None:
    if as_json:
        say_records(events)
        return
    for event in events:
        say(f"{event.seq}  {moment(event.time)}  {event.entry_id}  {_what(event)}")


def _what(event: EventRecord) -> str:
    by = f"by {event.transport}" if event.transport else None
    return "  ".join(part for part in (f"{event.kind:<9}", event.recipient, by, reply(event.reply)) if part).rstrip()
