"""What the spooler makes of what it finds: rows from SQL, dead relays, expired messages, a changed configuration."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
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


async def settled(queue: Path, *entry_ids: str) -> list[str]:
    def wait() -> list[str]:
        with Spool(queue) as spool:
            return [spool.wait(entry_id, timeout=30).state for entry_id in entry_ids]

    return await asyncio.to_thread(wait)


def insert(
    queue: Path, entry_id: str, recipients: list[object], sender: object = "a@b", content: object = CONTENT
) -> None:
    connection = sqlite3.connect(queue, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute(
        "INSERT INTO spoold_outbox (entry_id, sender, recipients, content) VALUES (?, ?, ?, ?)",
        (entry_id, sender, json.dumps(recipients), content),
    )
    connection.close()


async def test_a_bad_row_fails_alone_with_its_reason_in_the_timeline(queue: Path) -> None:
    bad: dict[str, tuple[list[object], object, object, str]] = {
        "unparsable address": (["not an address"], "a@b", CONTENT, "is not an address"),
        "control characters": (["ann@example.com\r\nRCPT TO:<eve@example.com>"], "a@b", CONTENT, "is not an address"),
        "terminal escapes": (["\x1b[2J@example.com"], "a@b", CONTENT, "is not an address"),
        "a bad sender": (["ann@example.com"], "eve@example.com>\r\nDATA", CONTENT, "sender"),
        "10,000 recipients": ([f"r{n}@example.com" for n in range(10_000)], "a@b", CONTENT, "at most 5000"),
        "an address of 10 kB": (["x" * 10_000 + "@example.com"], "a@b", CONTENT, "octets"),
        "an unknown kind of address": ([{"address": "x", "address_type": "FAX"}], "a@b", CONTENT, "no route leads"),
        "a header without end": (["ann@example.com"], "a@b", b"X: " + b"y" * 1_100_000, "header"),
    }
    async with SmtpServer() as server, SpoolerProcess(queue, server.url):
        ids = {name: f"{number:032x}" for number, name in enumerate(bad, start=1)}
        for name, (recipients, sender, content, _) in bad.items():
            insert(queue, ids[name], recipients, sender, content)
        hostile = f"{999:032x}"
        insert(queue, hostile, ["ann@example.com"], content=b"Subject: =?utf-8?b?a?= \x00\xff\n\n\x00\xfe")
        good = f"{1000:032x}"
        insert(queue, good, ["ann@example.com", "ann@example.com", {"address": "bob@example.com", "type": "bcc"}])
        assert await settled(queue, good, hostile) == ["sent", "sent"]
        assert ["ann@example.com", "bob@example.com"] in [mail.recipients for mail in server.mails]
        assert await settled(queue, *ids.values()) == ["failed"] * len(bad)
        assert len(server.mails) == 2
        with Spool(queue) as spool:
            for name, (_, _, _, reason) in bad.items():
                failed = [event for event in spool.get(ids[name]).events if event.kind == "failed"]
                assert reason in str(failed[0].reply), name
            assert spool.get(good).message_flags & 0xC == 0


async def test_a_row_from_sql_gets_msgflag_submit_from_the_spooler(queue: Path) -> None:
    insert(queue, "a" * 32, ["ann@example.com"])
    with Spool(queue) as spool:
        assert not spool.get("a" * 32).message_flags & 4
        async with SmtpServer() as server, SpoolerProcess(queue, server.url):
            server.dot_gate.clear()
            await server.dot_seen.wait()
            assert spool.get("a" * 32).message_flags & 4
            server.dot_gate.set()
            assert await settled(queue, "a" * 32) == ["sent"]


async def test_text_that_is_no_utf8_stops_nobody(queue: Path) -> None:
    connection = sqlite3.connect(queue, isolation_level=None)
    connection.execute(
        """INSERT INTO spoold_outbox (entry_id, sender, recipients, content)
        VALUES ('bad0bad0bad0bad0bad0bad0bad0bad0', CAST(x'ff40ff' AS TEXT), '["ann@example.com"]', 'x')"""
    )
    connection.close()
    async with SmtpServer() as server, SpoolerProcess(queue, server.url):
        with Spool(queue) as spool:
            good = spool.submit(CONTENT % 1)
        assert await settled(queue, good, "bad0" * 8) == ["sent", "failed"]


async def test_4yz_defers_5yz_fails_and_each_recipient_keeps_its_own_reply(queue: Path) -> None:
    replies = {
        "ann@example.com": "250 2.1.5 ok",
        "bob@example.com": "550 5.1.1 no such user",
        "cid@example.com": "450 4.2.1 mailbox busy",
    }
    async with SmtpServer(rcpt=lambda address: replies[address]) as server:
        async with SpoolerProcess(queue, server.url, arguments=["--drain"]) as spooler:
            with Spool(queue) as spool:
                entry_id = spool.submit(CONTENT % 1, recipients=list(replies))
            assert await spooler.wait() == 0
        async with SpoolerProcess(queue, server.url, arguments=["--drain"]) as spooler:
            assert await spooler.wait() == 0
    with Spool(queue) as spool:
        recipients = {r.address: r for r in spool.get(entry_id).recipients}
    assert {address: r.state for address, r in recipients.items()} == {
        "ann@example.com": "sent",
        "bob@example.com": "failed",
        "cid@example.com": "queued",
    }
    bob = recipients["bob@example.com"].last_reply
    assert bob is not None
    assert (bob.code, bob.enhanced, bob.text) == (550, "5.1.1", "no such user")
    assert recipients["cid@example.com"].next_attempt_time is not None


async def test_flush_gives_a_destination_that_waits_another_chance(queue: Path) -> None:
    async with SmtpServer() as gone:
        port = gone.port
    async with SpoolerProcess(queue, f"smtp://127.0.0.1:{port}?tls=none") as spooler:
        with Spool(queue) as spool:
            first = spool.submit(CONTENT % 1)
            await eventually(lambda: spooler.events("destination_waits"))
            second = spool.submit(CONTENT % 2)
            back = SmtpServer()
            back.port = port
            async with back:
                spool.flush()
                assert await settled(queue, first, second) == ["sent", "sent"]


async def test_what_has_expired_fails_and_what_expires_before_its_next_attempt_too(queue: Path) -> None:
    with Spool(queue) as spool:
        late = spool.submit(CONTENT % 1, expires=timedelta(milliseconds=1))
        soon = spool.submit(CONTENT % 2, expires=timedelta(seconds=20))
    async with SmtpServer(dot=lambda _: "451 4.3.0 not now") as server, SpoolerProcess(queue, server.url):
        assert await settled(queue, late, soon) == ["failed", "failed"]
        assert len(server.transactions) == 1
    with Spool(queue) as spool:
        assert "not now" in str(spool.get(soon).recipients[0].last_reply)


async def test_sighup_takes_up_a_changed_relay_and_refuses_a_broken_configuration(queue: Path, tmp_path: Path) -> None:
    file = tmp_path / "spoold.toml"

    def configure(server: SmtpServer, more: str = "") -> None:
        file.write_text(f'{more}\n[transports.relay]\nhost = "127.0.0.1"\nport = {server.port}\ntls = "none"\n')

    async with SmtpServer() as first, SmtpServer() as second:
        configure(first)
        async with SpoolerProcess(queue, environment={"SPOOLD_CONFIG": str(file)}) as spooler:
            with Spool(queue) as spool:
                assert await settled(queue, spool.submit(CONTENT % 1)) == ["sent"]
                configure(second, "[spooler]\nx = 1")
                spooler.send(signal.SIGHUP)
                await eventually(lambda: spooler.events("configuration_refused"))
                assert await settled(queue, spool.submit(CONTENT % 2)) == ["sent"]
                configure(second)
                spooler.send(signal.SIGHUP)
                await eventually(lambda: spooler.events("configuration_reloaded"))
                assert await settled(queue, spool.submit(CONTENT % 3)) == ["sent"]
        assert (len(first.mails), len(second.mails)) == (2, 1)


async def test_a_queue_from_a_backup_starts_held_and_in_doubt(queue: Path) -> None:
    with Spool(queue) as spool:
        entry_id = spool.submit(CONTENT % 1)
        async with SmtpServer() as server:
            async with SpoolerProcess(queue, server.url, arguments=["--restored", "--drain"]) as spooler:
                assert await spooler.wait() == 0
            (recipient,) = spool.get(entry_id).recipients
            assert (recipient.state, bool(recipient.in_doubt)) == ("held", True)
            assert not server.mails
            spool.release(entry_id)
            async with SpoolerProcess(queue, server.url, arguments=["--drain"]) as spooler:
                assert await spooler.wait() == 0
            assert len(server.mails) == 1


async def test_a_high_priority_goes_first_and_within_one_the_order_of_submission(queue: Path) -> None:
    with Spool(queue) as spool:
        for number in range(10):
            spool.submit(CONTENT % number, priority="low" if number < 5 else "normal")
        spool.submit(CONTENT % 99, priority="high")
    async with SmtpServer() as server:
        config = f"""
            [spooler]
            per_destination = 1
            [transports.relay]
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
        """
        async with SpoolerProcess(queue, config=config, arguments=["--drain"]) as spooler:
            assert await spooler.wait() == 0
        order = [int(mail.content.split(b"number ")[1].split()[0]) for mail in server.mails]
    assert order == [99, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4]


async def test_a_dead_destination_does_not_hold_up_the_others(queue: Path) -> None:
    async with SmtpServer() as gone:
        dead_port = gone.port
    async with SmtpServer() as alive:
        config = f"""
            [spooler]
            concurrency = 4
            [transports.dead]
            host = "127.0.0.1"
            port = {dead_port}
            [transports.alive]
            host = "127.0.0.1"
            port = {alive.port}
            tls = "none"
            [[routes]]
            recipient = "*@dead.example"
            transports = ["dead"]
            [[routes]]
            transports = ["alive"]
        """
        with Spool(queue) as spool:
            for number in range(500):
                spool.submit(CONTENT % number, recipients=["x@dead.example"])
            late = spool.submit(CONTENT % 1)
        async with SpoolerProcess(queue, config=config) as spooler:
            assert await settled(queue, late) == ["sent"]
            assert len(spooler.events("deferred")) <= 3


async def test_a_slow_destination_does_not_hold_up_the_others(queue: Path) -> None:
    async with SmtpServer() as slow, SmtpServer() as fast:
        slow.dot_gate.clear()
        config = f"""
            [spooler]
            concurrency = 40
            [transports.slow]
            host = "127.0.0.1"
            port = {slow.port}
            tls = "none"
            [transports.fast]
            host = "127.0.0.1"
            port = {fast.port}
            tls = "none"
            [[routes]]
            recipient = "*@slow.example"
            transports = ["slow"]
            [[routes]]
            transports = ["fast"]
        """
        with Spool(queue) as spool:
            for number in range(500):
                spool.submit(CONTENT % number, recipients=["x@slow.example"])
            late = spool.submit(CONTENT % 1)
        async with SpoolerProcess(queue, config=config):
            assert await settled(queue, late) == ["sent"]
            assert not slow.mails
            slow.dot_gate.set()


async def test_what_a_spooler_hands_back_at_its_end_goes_to_the_other_one(queue: Path) -> None:
    async with SmtpServer() as server, SpoolerProcess(queue, server.url):
        server.dot_gate.clear()
        async with SpoolerProcess(queue, server.url) as other:
            with Spool(queue) as spool:
                entry_ids = [spool.submit(CONTENT % number) for number in range(300)]
            await server.dot_seen.wait()
            other.send(signal.SIGTERM)
            asyncio.get_running_loop().call_later(0.2, server.dot_gate.set)
            assert await other.wait() == 0
        assert set(await settled(queue, *entry_ids)) == {"sent"}
        assert len(server.mails) == 300


async def test_held_and_released_in_mid_body_it_is_sent_once(queue: Path) -> None:
    async with SmtpServer(body_pause=1_000_000) as server, SpoolerProcess(queue, server.url):
        with Spool(queue) as spool:
            entry_id = spool.submit(CONTENT % 1 + (b"x" * 75 + b"\n") * 400_000)
            await server.body_paused.wait()
            spool.hold(entry_id)
            spool.release(entry_id)
            server.body_gate.set()
        assert await settled(queue, entry_id) == ["sent"]
        assert len(server.mails) == 1
        assert [transaction.dot for transaction in server.transactions].count(True) == 1


async def test_a_reload_lets_what_is_past_the_dot_end_and_does_not_stop_a_drain(queue: Path, tmp_path: Path) -> None:
    file = tmp_path / "spoold.toml"
    async with SmtpServer() as server:
        text = f"""
            [spooler]
            shutdown_grace = "100ms"
            [transports.relay]
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
        """
        file.write_text(text)
        with Spool(queue) as spool:
            entry_ids = [spool.submit(CONTENT % number) for number in range(30)]
        server.dot_gate.clear()
        environment = {"SPOOLD_CONFIG": str(file)}
        async with SpoolerProcess(queue, environment=environment, arguments=["--drain"]) as spooler:
            await server.dot_seen.wait()
            spooler.send(signal.SIGHUP)
            await eventually(lambda: spooler.events("configuration_reloaded"))
            file.write_text("")
            spooler.send(signal.SIGHUP)
            await eventually(lambda: spooler.events("configuration_refused"))
            server.dot_gate.set()
            assert await spooler.wait() == 0
        assert len(server.mails) == 30
        with Spool(queue) as spool:
            recipients = [spool.get(entry_id).recipients[0] for entry_id in entry_ids]
        assert {(r.state, bool(r.in_doubt)) for r in recipients} == {("sent", False)}
