"""What the suites do with a queue: submit, have the real daemon deliver what is due, look at what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spooler_process import SpoolerProcess

from spoold import Spool
from spoold.store.records import MessageRecord, RecipientRecord

SENDER = "app@example.com"
HELLO = b"From: app@example.com\nTo: ann@example.com\nSubject: hello\n\n.dot\nIt works.\n"


def submit(queue: Path, content: bytes = HELLO, *recipients: str) -> str:
    with Spool(queue) as spool:
        return spool.submit(content, sender=SENDER, recipients=list(recipients or ["ann@example.com"]))


def submit_each(queue: Path, messages: Mapping[str, bytes]) -> dict[str, str]:
    """One message to each address; the entry ids by address."""
    return {address: submit(queue, content, address) for address, content in messages.items()}


async def drain(queue: Path, relay: str | None = None, *, config: str | None = None) -> SpoolerProcess:
    """Have a daemon deliver all that is due now. Returns it, ended, for its log."""
    async with SpoolerProcess(queue, relay, config=config, arguments=["--drain"]) as spooler:
        assert await spooler.wait() == 0, spooler.log.decode()
    return spooler


def look(queue: Path, entry_id: str) -> MessageRecord:
    with Spool(queue) as spool:
        return spool.get(entry_id)


def recipients(queue: Path, entry_id: str) -> dict[str, RecipientRecord]:
    return {recipient.address: recipient for recipient in look(queue, entry_id).recipients}


def assert_sent(queue: Path, *entry_ids: str) -> None:
    """All recipients have it; else what stands in the way."""
    unsent = [message for entry_id in entry_ids if (message := look(queue, entry_id)).state != "sent"]
    assert not unsent, unsent


def config(port: int, *lines: str, queue: str = "") -> str:
    """A configuration with one relay on loopback; `lines` go below [transports.relay], `queue` below [queue]."""
    return "\n".join(["[queue]", queue, "[transports.relay]", 'host = "127.0.0.1"', f"port = {port}", *lines])


def trusting(ca_file: Path, tls: str) -> list[str]:
    """The relay's lines for TLS that is required and verified."""
    return [f'tls = "{tls}"', f'tls_ca_file = "{ca_file}"']
