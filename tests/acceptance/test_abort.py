"""An abort tells the truth: at every stage, by every way in, with the spooler running and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from smtp_server import SmtpServer
from spooler_process import SpoolerProcess
from waiting import eventually

from spoold import NotInQueue, Spool, UnableToAbort
from spoold.store.database import QueuePath, create

SMALL = b"From: app@example.com\nTo: ann@example.com\nSubject: small\n\nhello\n"
LARGE = b"From: app@example.com\nTo: ann@example.com\nSubject: large\n\n" + (b"x" * 75 + b"\n") * 400_000  # 30 MB

Abort = Callable[[Path, str], Awaitable[tuple[int, str]]]


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "queue.db"
    create(QueuePath.of(str(path)))
    return path


async def command(queue: Path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "spoold", "--queue", str(queue), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def by_library(queue: Path, entry_id: str) -> tuple[int, str]:
    with Spool(queue) as spool:
        try:
            result = spool.abort(entry_id)
        except (NotInQueue, UnableToAbort) as error:
            return error.exit_code, str(error)
        return (5 if result.partial else 0), ",".join(result.aborted)


async def by_command(queue: Path, entry_id: str) -> tuple[int, str]:
    code, out, err = await command(queue, "abort", entry_id)
    return code, out + err


async def by_sql(queue: Path, entry_id: str) -> tuple[int, str]:
    """DELETE tells less: nothing deleted means nothing left, an error means unable."""
    connection = sqlite3.connect(queue, isolation_level=None, timeout=10)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        rows = connection.execute(
            "DELETE FROM spoold_outbox WHERE entry_id = ? RETURNING entry_id", (entry_id,)
        ).fetchall()
    except sqlite3.IntegrityError as error:
        return (4 if str(error).startswith("MAPI_E_UNABLE_TO_ABORT") else 1), str(error)
    finally:
        connection.close()
    return (0, "") if rows else (3, "")


EVERY_WAY = pytest.mark.parametrize("abort", [by_library, by_command, by_sql])


def submit(queue: Path, content: bytes, **arguments: object) -> str:
    with Spool(queue) as spool:
        return spool.submit(content, **arguments)  # type: ignore[arg-type]


def state(queue: Path, entry_id: str) -> str:
    with Spool(queue) as spool:
        return spool.get(entry_id).state


async def settled(queue: Path, entry_id: str, timeout: float = 20) -> str:
    with Spool(queue) as spool:
        return (await asyncio.to_thread(_wait, queue, entry_id, timeout)) or spool.get(entry_id).state


def _wait(queue: Path, entry_id: str, timeout: float) -> str:
    with Spool(queue) as spool:
        return spool.wait(entry_id, timeout=timeout).state


@EVERY_WAY
async def test_what_is_queued_is_withdrawn_while_no_spooler_runs_and_never_sent_afterwards(
    queue: Path, abort: Abort
) -> None:
    entry_id, other = submit(queue, SMALL), submit(queue, SMALL)
    code, _ = await abort(queue, entry_id)
    assert code == 0
    assert state(queue, entry_id) == "aborted"
    async with SmtpServer() as server, SpoolerProcess(queue, server.url, arguments=["--drain"]) as spooler:
        assert await spooler.wait() == 0
        assert state(queue, other) == "sent"
        assert len(server.mails) == 1
    code, _ = await abort(queue, entry_id)
    assert code == 3


@EVERY_WAY
async def test_what_waits_for_a_connection_is_withdrawn_and_never_sent(queue: Path, abort: Abort) -> None:
    async with SmtpServer() as server, SpoolerProcess(queue, server.url):
        server.greeting_gate.clear()
        entry_id = submit(queue, SMALL)
        await server.connected.wait()
        code, _ = await abort(queue, entry_id)
        assert code == 0
        server.greeting_gate.set()
        later = submit(queue, SMALL)
        assert await settled(queue, later) == "sent"
        assert state(queue, entry_id) == "aborted"
        assert len(server.mails) == 1


@EVERY_WAY
async def test_in_the_middle_of_a_large_body_the_answer_comes_at_once_and_the_server_never_sees_a_dot(
    queue: Path, abort: Abort
) -> None:
    async with SmtpServer(body_pause=4_000_000) as server, SpoolerProcess(queue, server.url):
        entry_id = submit(queue, LARGE)
        await server.body_paused.wait()
        started = time.monotonic()
        code, _ = await abort(queue, entry_id)
        assert code == 0
        assert time.monotonic() - started < 5, "the abort waited for the upload"
        (transaction,) = server.transactions
        assert transaction.body_read >= 4_000_000
        server.body_gate.set()
        await transaction.ended.wait()
        assert not transaction.dot
        assert not server.mails
        assert transaction.body_read < 30_000_000, "the upload was not broken off"
        assert state(queue, entry_id) == "aborted"


@EVERY_WAY
async def test_after_the_dot_it_cannot_be_aborted_and_once_accepted_it_is_not_in_the_queue(
    queue: Path, abort: Abort
) -> None:
    async with SmtpServer() as server, SpoolerProcess(queue, server.url):
        server.dot_gate.clear()
        entry_id = submit(queue, SMALL)
        await server.dot_seen.wait()
        assert state(queue, entry_id) == "locked"
        code, _ = await abort(queue, entry_id)
        assert code == 4
        assert state(queue, entry_id) == "locked"
        server.dot_gate.set()
        assert await settled(queue, entry_id) == "sent"
        code, _ = await abort(queue, entry_id)
        assert code == 3
        assert len(server.mails) == 1


async def test_a_server_that_takes_two_seconds_for_its_answer_shows_the_locked_window(queue: Path) -> None:
    async with SmtpServer() as server, SpoolerProcess(queue, server.url):
        server.dot_gate.clear()
        entry_id = submit(queue, SMALL)
        await server.dot_seen.wait()
        asyncio.get_running_loop().call_later(2, server.dot_gate.set)
        answers = set()
        while not server.dot_gate.is_set():
            answers.add((await by_library(queue, entry_id))[0])
            await asyncio.sleep(0.05)  # the window itself is what is looked at
        assert answers == {4}
        assert await settled(queue, entry_id) == "sent"
        assert (await by_library(queue, entry_id))[0] == 3


async def test_an_abort_that_came_too_late_holds_if_the_server_then_defers(queue: Path) -> None:
    async with SmtpServer(dot=lambda _: "451 4.3.0 not now") as server, SpoolerProcess(queue, server.url):
        server.dot_gate.clear()
        entry_id = submit(queue, SMALL)
        await server.dot_seen.wait()
        assert (await by_library(queue, entry_id))[0] == 4
        server.dot_gate.set()
        assert await settled(queue, entry_id) == "aborted"
        assert not server.mails


async def test_an_abort_wait_tells_how_the_locked_ones_ended(queue: Path) -> None:
    async with SmtpServer(dot=lambda _: "451 4.3.0 not now") as server, SpoolerProcess(queue, server.url):
        server.dot_gate.clear()
        entry_id = submit(queue, SMALL)
        await server.dot_seen.wait()
        waiting = asyncio.create_task(command(queue, "abort", "--wait", "20", "--json", entry_id))
        with Spool(queue) as spool:
            await eventually(lambda: any(event.kind == "abort_wish" for event in spool.events()))
        server.dot_gate.set()
        code, out, _ = await waiting
        assert code == 0
        assert json.loads(out)["aborted"] == ["ann@example.com"]


async def test_nobody_withdrawn_gets_it_when_others_of_the_same_message_are_locked_or_refused(queue: Path) -> None:
    """One locked at the first destination; at the second one refused at RCPT and one withdrawn before the dot."""

    def picky(address: str) -> str:
        return "550 5.1.1 no such user" if address == "bob@second.example" else "250 2.1.5 ok"

    recipients = ["ann@first.example", "bob@second.example", "cid@second.example"]
    async with SmtpServer() as first, SmtpServer(rcpt=picky, body_pause=2_000_000) as second:
        first.dot_gate.clear()
        config = f"""
            [transports.first]
            host = "127.0.0.1"
            port = {first.port}
            tls = "none"
            [transports.second]
            host = "127.0.0.1"
            port = {second.port}
            tls = "none"
            [[routes]]
            recipient = "*@first.example"
            transports = ["first"]
            [[routes]]
            transports = ["second"]
        """
        async with SpoolerProcess(queue, config=config):
            entry_id = submit(queue, LARGE, recipients=recipients)
            await first.dot_seen.wait()
            await second.body_paused.wait()
            with Spool(queue) as spool:
                result = spool.abort(entry_id)
            assert result.aborted[-1:] == ("cid@second.example",)
            assert result.locked == ("ann@first.example",)
            second.body_gate.set()
            first.dot_gate.set()
            await second.transactions[0].ended.wait()
            assert await settled(queue, entry_id) == "partial"
            assert [mail.recipients for mail in first.mails] == [["ann@first.example"]]
            assert not second.mails
            assert not second.transactions[0].dot
            with Spool(queue) as spool:
                states = {r.address: r.state for r in spool.get(entry_id).recipients}
            assert states["ann@first.example"] == "sent"
            assert states["cid@second.example"] == "aborted"
            assert states["bob@second.example"] in ("aborted", "failed")


async def test_those_who_remain_get_it_at_once_when_one_of_several_is_withdrawn_before_the_dot(queue: Path) -> None:
    async with SmtpServer(body_pause=2_000_000) as server, SpoolerProcess(queue, server.url):
        entry_id = submit(queue, LARGE, recipients=["ann@example.com", "bob@example.com"])
        await server.body_paused.wait()
        connection = sqlite3.connect(queue, isolation_level=None, timeout=10)
        connection.execute(  # what an alias or a per-recipient abort does: one of two is withdrawn
            "UPDATE spoold_recipient SET state = 'aborted', token = NULL, abort_wish = 1 WHERE address = 'bob@example.com'"
        )
        connection.close()
        server.body_gate.set()
        assert await settled(queue, entry_id) == "partial"
        assert [mail.recipients for mail in server.mails] == [["ann@example.com"]]
        assert [transaction.dot for transaction in server.transactions] == [False, True]
        with Spool(queue) as spool:
            ann = spool.get(entry_id).recipients[0]
        assert (ann.state, ann.attempts) == ("sent", 1), "the restart counts as no failed attempt"


async def test_a_connection_lost_after_the_dot_leaves_a_doubt_that_an_abort_does_not_deny(queue: Path) -> None:
    async with SmtpServer(dot=lambda _: None) as server:
        config = f"""
            [queue]
            in_doubt = "hold"
            [transports.relay]
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
        """
        async with SpoolerProcess(queue, config=config):
            entry_id = submit(queue, SMALL)
            with Spool(queue) as spool:
                await eventually(lambda: state(queue, entry_id) == "held")
                assert spool.get(entry_id).recipients[0].in_doubt
            code, _ = await by_sql(queue, entry_id)
            assert code == 4
            code, text = await by_library(queue, entry_id)
            assert code == 4
            assert "may have been delivered" in text
            assert state(queue, entry_id) == "in_doubt"


async def test_an_abort_inside_the_applications_transaction_binds_at_its_commit(queue: Path) -> None:
    kept, withdrawn = submit(queue, SMALL), submit(queue, SMALL)
    connection = sqlite3.connect(queue)
    with Spool(queue) as spool:
        spool.abort(kept, connection=connection)
        connection.rollback()
        spool.abort(withdrawn, connection=connection)
        connection.commit()
    connection.close()
    async with SmtpServer() as server, SpoolerProcess(queue, server.url, arguments=["--drain"]) as spooler:
        assert await spooler.wait() == 0
        assert (state(queue, kept), state(queue, withdrawn)) == ("sent", "aborted")
        assert len(server.mails) == 1


async def test_a_held_message_waits_until_it_is_released(queue: Path) -> None:
    entry_id = submit(queue, SMALL, hold=True)
    async with SmtpServer() as server, SpoolerProcess(queue, server.url):
        other = submit(queue, SMALL)
        assert await settled(queue, other) == "sent"
        assert state(queue, entry_id) == "held"
        with Spool(queue) as spool:
            assert spool.release(entry_id) == 1
        assert await settled(queue, entry_id) == "sent"
