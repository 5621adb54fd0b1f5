import inspect
import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spoold import eventlog
from spoold.outcome import Reply

REPLY = Reply(250, "2.0.0", "Ok: queued as 4F1B")
WHO: dict[str, Any] = {
    "entry_id": "0192f0c1d2e37f40a1b2c3d4e5f60718", "recipient": "ann@example.com", "transport": "relay",
    "destination": "relay.example.com:25", "reply": REPLY, "attempt": 1,
}  # fmt: skip
EVENTS: dict[str, dict[str, Any]] = {
    "spooler_started": {"incarnation": 7, "queue": "/srv/queue.db"},
    "spooler_stopping": {"reason": "SIGTERM"},
    "spooler_stopped": {"incarnation": 7},
    "spooler_declared_dead": {"incarnation": 7},
    "spooler_recovered": {"incarnation": 6, "reason": "its lock is free", "freed": 3, "in_doubt": 1},
    "configuration_reloaded": {},
    "configuration_refused": {"errors": ["a: wrong", "b: wrong"]},
    "message_checked": {"entry_id": WHO["entry_id"]},
    "message_refused": {"entry_id": WHO["entry_id"], "reason": "no header"},
    "sent": WHO,
    "deferred": {**WHO, "retry_in": 60.0},
    "failed": WHO,
    "in_doubt": {**WHO, "state": "queued"},
    "withdrawn": {"entry_id": WHO["entry_id"], "recipient": "ann@example.com"},
    "late_result": {**WHO, "outcome": "deferred"},
    "lock_violation": WHO,
    "provider_bug": {"transport": "relay", "error": ValueError("bug")},
    "transport_suspended": {"transport": "relay", "reason": "535 wrong password"},
    "transport_resumed": {"transport": "relay"},
    "destination_waits": {"destination": "relay.example.com:25", "seconds": 5.0, "reply": REPLY},
    "queue_unwritable": {"error": "disk full", "retry_in": 1.0},
    "queue_writable": {},
    "flushed": {},
    "expired": {"count": 2},
    "restored": {"count": 2},
    "abandoned_content": {"count": 1},
}
FIXED = {"timestamp", "level", "event"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    log, handlers = eventlog._Output.log, logging.getLogger().handlers[:]
    yield
    eventlog._Output.log = log
    logging.getLogger().handlers[:] = handlers


def emit(name: str) -> None:
    getattr(eventlog, name)(**EVENTS[name])


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_function_of_the_module_is_an_event_that_is_tried_here() -> None:
    functions = {n for n, f in inspect.getmembers(eventlog, inspect.isfunction) if not n.startswith("_")}
    assert functions - {"configure"} == set(EVENTS)


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_is_one_line_of_json_with_its_name_and_all_its_fields(name: str) -> None:
    stream = io.StringIO()
    eventlog.configure("json", "debug", stream)
    emit(name)
    (line,) = lines_of(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line["event"] == name
    assert line["timestamp"].endswith("Z")
    fields = set(inspect.signature(getattr(eventlog, name)).parameters)
    assert set(line) - FIXED == ((fields - {"error"}) | {"exception"} if name == "provider_bug" else fields)
    assert line.get("reply") in (None, "250 2.0.0 Ok: queued as 4F1B")


def test_before_configure_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    for name in EVENTS:
        emit(name)
    assert capfd.readouterr() == ("", "")


def test_auto_is_for_people_on_a_terminal_and_json_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        eventlog.configure("auto", "info", stream)
        eventlog.expired(3)
    assert "expired" in terminal.getvalue()
    assert "count=3" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()
    assert lines_of(file)[0]["count"] == 3


def test_a_level_keeps_out_what_is_below_it_and_can_be_changed() -> None:
    stream = io.StringIO()
    eventlog.configure("json", "error", stream)
    for name in EVENTS:
        emit(name)
    assert {line["level"] for line in lines_of(stream)} == {"error"}
    eventlog.configure("json", "debug", stream)
    eventlog.message_checked(entry_id="x")
    assert lines_of(stream)[-1]["event"] == "message_checked"


@pytest.mark.parametrize("format_", ["json", "console"])
def test_what_strangers_wrote_cannot_drive_the_terminal_or_forge_a_line(format_: str) -> None:
    stream = io.StringIO()
    eventlog.configure(format_, "info", stream)
    hostile = "\x1b[2J\r\n\x07\x9b\x7f\u202e\u2028\udc80"
    eventlog.sent(**{**WHO, "recipient": hostile, "reply": Reply(250, None, hostile)})
    eventlog.spooler_stopping(hostile)
    assert len(stream.getvalue().splitlines()) == 2
    assert all(line.isprintable() for line in stream.getvalue().split("\n"))


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_providers_bug_comes_with_its_traceback_but_without_its_variables(format_: str) -> None:
    def deliver(password: str) -> None:
        raise ValueError("out of\x1b range")

    stream = io.StringIO()
    eventlog.configure(format_, "info", stream)
    try:
        deliver("hunter2")
    except ValueError as error:
        eventlog.provider_bug(transport="relay", error=error)
    written = stream.getvalue()
    assert "Traceback" in written
    assert "in deliver" in written
    assert "hunter2" not in written.replace('deliver("hunter2")', "").replace('deliver(\\"hunter2\\")', "")
    assert "\x1b" not in written


def test_a_log_that_nobody_can_write_stops_nobody() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    closed = io.StringIO()
    closed.close()
    for stream in (Full(), closed):
        eventlog.configure("json", "info", stream)
        eventlog.flushed()


def test_what_other_libraries_warn_of_comes_the_same_way_once() -> None:
    stream = io.StringIO()
    eventlog.configure("json", "info", io.StringIO())
    eventlog.configure("json", "info", stream)
    logging.getLogger("asyncio").warning("slow callback: %s", 3)
    logging.getLogger("asyncio").info("not this")
    (line,) = lines_of(stream)
    assert (line["event"], line["logger"], line["message"]) == ("library", "asyncio", "slow callback: 3")


def cost(call: Callable[[], None], count: int) -> float:
    """Microseconds of the fastest of some runs: what it costs where nothing else runs."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(count):
            call()
        best = min(best, (time.process_time() - start) / count * 1e6)
    return best


def test_sent_is_cheap_enough_for_thousands_a_second() -> None:
    eventlog.configure("json", "info", io.StringIO())
    assert cost(lambda: emit("sent"), 2000) < 25
    eventlog.configure("json", "warning", io.StringIO())
    assert cost(lambda: emit("sent"), 20_000) < 3
