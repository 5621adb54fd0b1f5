"""SIGKILL of a real daemon at named points, under load, with one spooler and with two: nothing is lost or stuck."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from smtp_server import SmtpServer
from spooler_process import SpoolerProcess

from spoold import Spool
from spoold.store.database import QueuePath, create

MESSAGES = 100
CONTENT = b"From: app@example.com\nTo: ann@example.com\nSubject: number %d\n\nhello\n"
KILLED_DAEMON = str(Path(__file__).parents[1] / "support" / "killed_daemon.py")
POINTS = {
    "CLAIM_COMMITTED": 1,
    "LOCK_COMMITTED": 3,
    "ACCEPTED": 10,
    "RESULT_COMMITTED": 3,
}  # and which time it is fatal


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "queue.db"
    create(QueuePath.of(str(path)))
    return path


def _submit_all(queue: Path) -> list[str]:
    with Spool(queue) as spool:
        return [spool.submit(CONTENT % number) for number in range(MESSAGES)]


def _wait_for_all(queue: Path, entry_ids: list[str]) -> None:
    with Spool(queue) as spool:
        for entry_id in entry_ids:
            spool.wait(entry_id, timeout=40)


def _count_doubles(queue: Path, server: SmtpServer, entry_ids: list[str]) -> int:
    """Everything was delivered; returns how many came twice, each of them marked in doubt."""
    arrived = Counter(int(re.findall(rb"number (\d+)", mail.content)[0]) for mail in server.mails)
    doubled = 0
    with Spool(queue) as spool:
        for number, entry_id in enumerate(entry_ids):
            message = spool.get(entry_id)
            assert message.state == "sent"
            assert arrived[number] >= 1, f"message {number} was lost"
            if arrived[number] > 1:
                assert message.recipients[0].in_doubt, f"message {number} came twice and is not marked"
                doubled += 1
        assert not list(spool.list()), "nothing is stuck"
    return doubled


@pytest.mark.parametrize("spoolers", [1, 2])
@pytest.mark.parametrize("point", POINTS)
async def test_a_spooler_killed_under_load_loses_nothing_and_doubles_only_what_was_locked(
    queue: Path, point: str, spoolers: int
) -> None:
    other = SpoolerProcess(queue)
    async with SmtpServer() as server, contextlib.AsyncExitStack() as ending:
        other.arguments = ["--relay", server.url]
        if spoolers == 2:
            await ending.enter_async_context(other)
            await other.pause()  # so that the victim gets to its point
        async with SpoolerProcess(queue, server.url, program=(KILLED_DAEMON, point, str(POINTS[point]))) as victim:
            entry_ids = await asyncio.to_thread(_submit_all, queue)
            assert await victim.wait() == -signal.SIGKILL
        if spoolers == 2:
            other.send(signal.SIGCONT)
        else:
            await ending.enter_async_context(other)
        await asyncio.to_thread(_wait_for_all, queue, entry_ids)
        await other.stop()
        (recovered,) = other.events("spooler_recovered")
        doubled = _count_doubles(queue, server, entry_ids)
        assert doubled <= int(str(recovered["in_doubt"])), "duplicates come only from what was locked at the kill"
        if point == "CLAIM_COMMITTED":
            assert doubled == 0
        if point == "ACCEPTED":
            assert doubled >= 1


async def test_with_in_doubt_hold_a_kill_after_the_acceptance_sends_nothing_twice(queue: Path) -> None:
    async with SmtpServer() as server:
        config = f"""
            [queue]
            in_doubt = "hold"
            [transports.relay]
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
        """
        async with SpoolerProcess(queue, config=config, program=(KILLED_DAEMON, "ACCEPTED", "10")) as victim:
            entry_ids = await asyncio.to_thread(_submit_all, queue)
            assert await victim.wait() == -signal.SIGKILL
        async with SpoolerProcess(queue, config=config, arguments=["--drain"]) as successor:
            assert await successor.wait() == 0
        arrived = Counter(mail.content for mail in server.mails)
        assert set(arrived.values()) == {1}
        with Spool(queue) as spool:
            states = Counter(spool.get(entry_id).state for entry_id in entry_ids)
        assert states["sent"] + states["held"] == MESSAGES
        assert states["held"] >= 1


async def test_a_spooler_that_was_stopped_for_longer_than_its_lease_gives_up_what_it_had(queue: Path) -> None:
    config = """
        [spooler]
        lease = "1s"
        [transports.relay]
        host = "127.0.0.1"
        port = {port}
        tls = "none"
    """
    async with SmtpServer(body_pause=1_000_000) as server:
        text = config.format(port=server.port)
        async with SpoolerProcess(queue, config=text) as stopped:
            with Spool(queue) as spool:
                entry_id = spool.submit(CONTENT % 1 + (b"x" * 75 + b"\n") * 400_000)
            await server.body_paused.wait()
            await stopped.pause()
            async with SpoolerProcess(queue, config=text) as other:
                await server.until(lambda: len(server.transactions) == 2)
                server.body_gate.set()
                await asyncio.to_thread(_wait_for_all, queue, [entry_id])
                stopped.send(signal.SIGCONT)
                await server.transactions[0].ended.wait()
                assert not server.transactions[0].dot, "the lock of the one declared dead must not be had"
                assert len(server.mails) == 1
                with Spool(queue) as spool:
                    later = spool.submit(CONTENT % 2)
                await asyncio.to_thread(_wait_for_all, queue, [later])
                assert other.events("spooler_recovered")
        assert stopped.events("spooler_declared_dead")
