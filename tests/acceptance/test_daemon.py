"""The daemon as an operator meets it: it stops in order, drains, keeps its memory, and says what is wrong."""

from __future__ import annotations

import asyncio
import re
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from smtp_server import SmtpServer
from spooler_process import SpoolerProcess
from waiting import eventually

from spoold import Spool
from spoold.store.database import QueuePath, create

CONTENT = b"From: app@example.com\nTo: ann@example.com\nSubject: number %d\n\nhello\n"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "queue.db"
    create(QueuePath.of(str(path)))
    return path


def _states(queue: Path, entry_ids: list[str]) -> list[str]:
    with Spool(queue) as spool:
        return [spool.get(entry_id).state for entry_id in entry_ids]


def _peak_kilobytes(process: int) -> int:
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())[0])


async def test_sigterm_lets_what_is_in_flight_end_and_hands_the_rest_back(queue: Path) -> None:
    async with SmtpServer() as server, SpoolerProcess(queue, server.url) as spooler:
        server.dot_gate.clear()
        with Spool(queue) as spool:
            entry_ids = [spool.submit(CONTENT % number) for number in range(20)]
        await server.dot_seen.wait()
        spooler.send(signal.SIGTERM)
        asyncio.get_running_loop().call_later(0.3, server.dot_gate.set)
        assert await spooler.wait() == 0
        states = _states(queue, entry_ids)
        assert set(states) == {"sent", "queued"}
        assert states.count("sent") == len(server.mails)
        with Spool(queue) as spool:
            recipients = [spool.get(entry_id).recipients[0] for entry_id in entry_ids]
        assert all(recipient.state != "claimed" for recipient in recipients), "what was not begun is free again"
        assert not any(recipient.in_doubt for recipient in recipients)
    async with SmtpServer() as server, SpoolerProcess(queue, server.url, arguments=["--drain"]) as spooler:
        assert await spooler.wait() == 0
        assert set(_states(queue, entry_ids)) == {"sent"}


async def test_a_server_that_does_not_answer_within_the_grace_leaves_a_doubt_and_no_loss(queue: Path) -> None:
    async with SmtpServer() as server:
        server.dot_gate.clear()
        config = f"""
            [spooler]
            shutdown_grace = "200ms"
            [transports.relay]
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
        """
        async with SpoolerProcess(queue, config=config) as spooler:
            with Spool(queue) as spool:
                entry_id = spool.submit(CONTENT % 1)
            await server.dot_seen.wait()
            spooler.send(signal.SIGTERM)
            assert await spooler.wait() == 0
    with Spool(queue) as spool:
        (recipient,) = spool.get(entry_id).recipients
    assert (recipient.state, bool(recipient.in_doubt)) == ("queued", True)


async def test_drain_delivers_what_is_due_and_leaves_what_is_not(queue: Path) -> None:
    with Spool(queue) as spool:
        due = [spool.submit(CONTENT % number) for number in range(50)]
        later = spool.submit(CONTENT % 99, send_at=timedelta(hours=1))
    async with SmtpServer() as server, SpoolerProcess(queue, server.url, arguments=["--drain"]) as spooler:
        assert await spooler.wait() == 0
        assert _states(queue, [*due, later]) == ["sent"] * 50 + ["queued"]
        assert len(server.mails) == 50


async def test_drain_of_an_empty_queue_exits_at_once(queue: Path) -> None:
    async with SmtpServer() as server, SpoolerProcess(queue, server.url, arguments=["--drain"]) as spooler:
        assert await spooler.wait() == 0
        assert server.connections == 0


async def test_an_unreachable_relay_defers_and_the_log_names_it_once(queue: Path) -> None:
    async with SmtpServer() as server:
        url = server.url
    with Spool(queue) as spool:
        entry_ids = [spool.submit(CONTENT % number) for number in range(50)]
    async with SpoolerProcess(queue, url, arguments=["--drain"]) as spooler:
        assert await spooler.wait() == 0
        (waits,) = spooler.events("destination_waits")
        assert "refused" in str(waits["reply"])
        assert len(spooler.events("deferred")) <= 5, "the rest of its mail waits without being tried"
    assert set(_states(queue, entry_ids)) == {"queued"}


async def test_a_wrong_password_suspends_the_transport_and_spares_the_messages(queue: Path) -> None:
    def nobody(address: str) -> str:
        return "530 5.7.0 authenticate first"

    async with SmtpServer(rcpt=nobody, extensions=("PIPELINING", "AUTH PLAIN LOGIN")) as server:
        config = f"""
            [transports.relay]
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
            username = "app"
            password = "wr0ng-secret"
            allow_plaintext_auth = true
        """
        with Spool(queue) as spool:
            entry_ids = [spool.submit(CONTENT % number) for number in range(50)]
        async with SpoolerProcess(queue, config=config) as spooler:
            with Spool(queue) as spool:
                suspended = await eventually(lambda: [t for t in spool.status().transports if t.state == "suspended"])
            assert "app" in suspended[0].reason
            assert "credentials" in suspended[0].reason
            spooler.send(signal.SIGTERM)
            assert await spooler.wait() == 0
            assert len(spooler.events("transport_suspended")) == 1
            assert len(spooler.events("deferred")) <= 5
            assert b"wr0ng-secret" not in spooler.log
        assert set(_states(queue, entry_ids)) == {"queued"}


async def test_a_backlog_is_sent_only_after_the_transport_has_logged_on(queue: Path) -> None:
    """Credentials and certificates are read at logon: what is sent before goes without them."""
    async with SmtpServer() as server:
        config = f"""
            [transports.relay]
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
            allow_plaintext_auth = true
            username = "app"
            password_file = "{queue.parent / "nowhere"}"
        """
        with Spool(queue) as spool:
            entry_ids = [spool.submit(CONTENT % number) for number in range(10)]
        async with SpoolerProcess(queue, config=config, arguments=["--drain"]) as spooler:
            assert await spooler.wait() == 0
            assert spooler.events("transport_suspended")
        assert server.connections == 0
        assert set(_states(queue, entry_ids)) == {"queued"}


async def test_a_hundred_large_messages_in_flight_at_once_take_little_memory_each(queue: Path) -> None:
    """What is in hand of a message does not depend on its size; benchmarks/memory.py does it with 25 MB each."""
    large = b"Large: yes\n" + CONTENT % 1 + (b"x" * 75 + b"\n") * 40_000  # 3 MB
    async with SmtpServer(body_pause=1_500_000) as server:
        config = f"""
            [spooler]
            per_destination = 100
            [transports.relay]
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
        """
        with Spool(queue, durability="normal") as spool:
            for number in range(300):  # a lane widens with its successes
                spool.submit(CONTENT % number)
            for _ in range(100):
                spool.submit(large)
        async with SpoolerProcess(queue, config=config) as spooler:
            await server.until(lambda: sum(t.body_read >= 1_500_000 for t in server.transactions) == 100)
            assert spooler.process is not None
            assert _peak_kilobytes(spooler.process.pid) < 250 * 1024, "100 in flight, 3 MB each, must not be in memory"
            await spooler.kill()
