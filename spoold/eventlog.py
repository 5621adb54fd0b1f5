"""One function per log event, with fixed field names. Never content, never credentials.

`configure` says where events go and from which level on; before that nothing is written. A log that cannot be written
(a closed standard error, a full disk) never stops the mail.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from spoold.outcome import Reply

_FIRST = ("timestamp", "level", "event")


class _Lines:
    """Writes each event as a line, at once. What structlog calls for every level."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more; the mail goes on
            pass

    debug = info = warning = error = critical = msg


class _Silence:
    """Takes the place of a stream before `configure`."""

    def msg(self, line: str) -> None:
        pass


class _Output:
    """Where events go: set by `configure` alone."""

    log: FilteringBoundLogger = structlog.wrap_logger(
        _Silence(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )


class _Libraries(logging.Handler):
    """Warnings of asyncio and of other libraries, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _Output.log.log(
                record.levelno, "library", logger=record.name, message=record.getMessage(), exc_info=record.exc_info
            )
        except Exception:  # noqa: BLE001 - as logging does it: a broken record must not stop anybody
            self.handleError(record)


def configure(format: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:  # noqa: A002 - the setting's name
    """Send events of at least `level` to `stream` (standard error) as `json` lines or for the `console`.

    `auto`: console on a terminal, else json. May be called again; what other libraries log goes the same way.
    """
    output = sys.stderr if stream is None else stream
    console = format == "console" or (format == "auto" and output.isatty())
    processors: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        *(_for_console(output) if console else (_json,)),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _Lines(output),
        cache_logger_on_first_use=True,
    )
    _Output.log = structlog.get_logger().bind()  # bound once: not for every event
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _Libraries)]
    root.addHandler(_Libraries(logging.WARNING))


def _json(_: WrappedLogger, __: str, event: EventDict) -> str:
    ordered = {name: event.pop(name) for name in _FIRST}
    ordered.update(event)
    return json.dumps(ordered, default=str).replace("\x7f", "\\u007f")


def _for_console(stream: TextIO) -> tuple[Processor, ...]:
    colours = stream.isatty() and not os.environ.get("NO_COLOR")
    plain = structlog.dev.plain_traceback  # others show local variables: passwords, content
    return _harmless, structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)


def _harmless(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """What a server or a submitter wrote must not drive the terminal."""
    for name, value in event.items():
        text = value if isinstance(value, str | int | float | None) else str(value)
        if isinstance(text, str) and not text.isprintable():
            keep = "\n" if name == "exception" else ""
            text = "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
        event[name] = text
    return event


# -- the spooler -------------------------------------------------------------------------------------------------------


def spooler_started(incarnation: int, queue: str) -> None:
    _Output.log.info("spooler_started", incarnation=incarnation, queue=queue)


def spooler_stopping(reason: str, in_flight: int = 0) -> None:
    _Output.log.info("spooler_stopping", reason=reason, in_flight=in_flight)


def spooler_stopped(incarnation: int) -> None:
    _Output.log.info("spooler_stopped", incarnation=incarnation)


def spooler_declared_dead(incarnation: int) -> None:
    """This spooler finds that another one took it for dead."""
    _Output.log.error("spooler_declared_dead", incarnation=incarnation)


def spooler_recovered(*, incarnation: int, reason: str, freed: int, in_doubt: int) -> None:
    """A dead incarnation's recipients are free again; `in_doubt` of them had been locked."""
    _Output.log.warning("spooler_recovered", incarnation=incarnation, reason=reason, freed=freed, in_doubt=in_doubt)


def configuration_reloaded(path: str | None = None) -> None:
    _Output.log.info("configuration_reloaded", path=path)


def configuration_refused(errors: Sequence[str]) -> None:
    """The running configuration stays."""
    _Output.log.error("configuration_refused", errors=list(errors))


# -- a message ---------------------------------------------------------------------------------------------------------


def message_checked(entry_id: str, recipients: int | None = None) -> None:
    _Output.log.debug("message_checked", entry_id=entry_id, recipients=recipients)


def message_refused(*, entry_id: str, reason: str) -> None:
    """Intake found that the message cannot be sent."""
    _Output.log.warning("message_refused", entry_id=entry_id, reason=reason)


# -- a recipient's way -------------------------------------------------------------------------------------------------


def sent(
    *, entry_id: str, recipient: str, transport: str | None, destination: str | None, reply: Reply | None, attempt: int
) -> None:
    _Output.log.info(
        "sent",
        entry_id=entry_id,
        recipient=recipient,
        transport=transport,
        destination=destination,
        reply=reply,
        attempt=attempt,
    )


def deferred(
    *,
    entry_id: str,
    recipient: str,
    transport: str | None,
    destination: str | None,
    reply: Reply | None,
    attempt: int,
    retry_in: float | None = None,
) -> None:
    """`retry_in`: seconds."""
    _Output.log.info(
        "deferred",
        entry_id=entry_id,
        recipient=recipient,
        transport=transport,
        destination=destination,
        reply=reply,
        attempt=attempt,
        retry_in=retry_in,
    )


def failed(
    *, entry_id: str, recipient: str, transport: str | None, destination: str | None, reply: Reply | None, attempt: int
) -> None:
    _Output.log.warning(
        "failed",
        entry_id=entry_id,
        recipient=recipient,
        transport=transport,
        destination=destination,
        reply=reply,
        attempt=attempt,
    )


def in_doubt(
    *,
    entry_id: str,
    recipient: str,
    transport: str | None,
    destination: str | None,
    reply: Reply | None,
    attempt: int,
    state: str | None = None,
) -> None:
    """The lock was taken and nothing decided. `state`: what the recipient became."""
    _Output.log.warning(
        "in_doubt",
        entry_id=entry_id,
        recipient=recipient,
        transport=transport,
        destination=destination,
        reply=reply,
        attempt=attempt,
        state=state,
    )


def withdrawn(
    *,
    entry_id: str,
    recipient: str,
    transport: str | None = None,
    destination: str | None = None,
    state: str | None = None,
) -> None:
    """An abort or a hold took it out of this spooler's hands. `state`: what the recipient became."""
    _Output.log.info(
        "withdrawn", entry_id=entry_id, recipient=recipient, transport=transport, destination=destination, state=state
    )


def late_result(
    *,
    entry_id: str,
    recipient: str,
    transport: str | None,
    destination: str | None,
    reply: Reply | None,
    outcome: str,
    attempt: int | None = None,
) -> None:
    """A result that came after the claim was gone; it changed nothing."""
    _Output.log.warning(
        "late_result",
        entry_id=entry_id,
        recipient=recipient,
        transport=transport,
        destination=destination,
        reply=reply,
        outcome=outcome,
        attempt=attempt,
    )


def lock_violation(
    *,
    entry_id: str,
    recipient: str,
    transport: str | None,
    destination: str | None = None,
    reply: Reply | None = None,
    attempt: int | None = None,
) -> None:
    """A provider reports an acceptance without having locked."""
    _Output.log.error(
        "lock_violation",
        entry_id=entry_id,
        recipient=recipient,
        transport=transport,
        destination=destination,
        reply=reply,
        attempt=attempt,
    )


# -- transports and destinations ---------------------------------------------------------------------------------------


def provider_bug(
    *, transport: str, error: BaseException, entry_id: str | None = None, destination: str | None = None
) -> None:
    """A provider raised what is no outcome; with its traceback, without local variables."""
    _Output.log.error("provider_bug", transport=transport, entry_id=entry_id, destination=destination, exc_info=error)


def transport_suspended(*, transport: str, reason: str) -> None:
    _Output.log.error("transport_suspended", transport=transport, reason=reason)


def transport_resumed(transport: str) -> None:
    _Output.log.info("transport_resumed", transport=transport)


def destination_waits(
    *, destination: str, seconds: float, reply: Reply | None = None, transport: str | None = None
) -> None:
    """Nobody there can be reached: all of its mail waits."""
    _Output.log.warning(
        "destination_waits", destination=destination, transport=transport, seconds=round(seconds, 3), reply=reply
    )


# -- the queue ---------------------------------------------------------------------------------------------------------


def queue_unwritable(*, error: str, retry_in: float) -> None:
    """`retry_in`: seconds. Nothing is claimed meanwhile; results are kept."""
    _Output.log.error("queue_unwritable", error=error, retry_in=round(retry_in, 3))


def queue_writable() -> None:
    _Output.log.info("queue_writable")


def flushed() -> None:
    """Somebody asked for another try of what waits."""
    _Output.log.info("flushed")


def restored(*, count: int) -> None:
    """The queue came from a backup: so many recipients are held and marked in doubt."""
    _Output.log.warning("restored", count=count)


def expired(count: int) -> None:
    """Recipients whose time was over have failed."""
    _Output.log.warning("expired", count=count)


def abandoned_content(count: int) -> None:
    """Content was cleared away whose writer ended before the message became visible."""
    _Output.log.info("abandoned_content", count=count)
