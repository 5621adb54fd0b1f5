"""A spooler led by hand: claims, locks and settles what a test says, on a connection of its own."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from spoold.lifecycle import Event, InDoubtPolicy
from spoold.outcome import Reply
from spoold.store import spooling
from spoold.store.database import QueuePath, open_queue
from spoold.store.session import SyncSession, run, transaction
from spoold.store.spooling import Result

NOW = 2_000_000_000_000  # everything is due
MARK = "0123456789ab"
NO_SUCH_USER = Reply(550, "5.1.1", "no such user")


class Hand:
    """One incarnation. Times that it writes are NOW."""

    def __init__(self, queue: Path, mark: str = MARK) -> None:
        self.where = QueuePath.of(str(queue))
        self.mark = mark
        self.session = SyncSession(open_queue(self.where))
        ((self.token,),) = run(self.session.rows(spooling.SQL.begin_incarnation, ("host", 1, mark, NOW)))

    def claim(self, *addresses: str) -> dict[int, str]:
        """Claim what is due and has one of these addresses (none: everything); address by id."""

        async def operation() -> dict[int, str]:
            async with transaction(self.session):
                await self.session.rows(
                    "UPDATE spoold_recipient SET due = changed, destination = NULL WHERE state = 'queued'"
                )
                claimed = await spooling.claim(self.session, self.token, None, 10_000, NOW)
                others = [(c.id,) for c in claimed if addresses and c.address not in addresses]
                give_back = "UPDATE spoold_recipient SET state = 'queued', token = NULL WHERE id = ?"
                await self.session.many(give_back, others)
                return {c.id: c.address for c in claimed if not addresses or c.address in addresses}

        return run(operation())

    def lock(self, *addresses: str) -> dict[int, str]:
        """Claim and lock them."""
        claimed = self.claim(*addresses)

        async def operation() -> None:
            async with transaction(self.session):
                assert await spooling.lock(self.session, self.token, [list(claimed)]) == [[]]

        run(operation())
        return claimed

    def settle(self, recipients: dict[int, str], event: Event, reply: Reply | None = None) -> None:
        """Write one result for all of them."""
        results = [
            Result(
                recipient_id=id_, token=self.token, event=event, reply=reply, transport="relay",
                destination="mx.example.com", due=NOW, counts=event is Event.DEFERRED,
            )
            for id_ in recipients
        ]  # fmt: skip

        async def operation() -> None:
            async with transaction(self.session):
                await spooling.settle(self.session, results, InDoubtPolicy.RETRY, NOW)

        run(operation())

    def send(self, *addresses: str) -> None:
        """Deliver: claim, lock, accepted."""
        self.settle(self.lock(*addresses), Event.ACCEPTED, Reply(250, "2.0.0", "taken"))

    def fail(self, *addresses: str, reply: Reply = NO_SUCH_USER) -> None:
        """A server says no."""
        self.settle(self.claim(*addresses), Event.REJECTED, reply)

    def live(self) -> int:
        """Hold the lock that proves a spooler alive; returns its descriptor, to be closed to die."""
        lock = os.open(self.where.beside(self.mark, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock

    def bell(self) -> socket.socket:
        """A doorbell; reading from it fails at once if it has not been rung."""
        directory = os.open(os.path.dirname(self.where.path), os.O_PATH)
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        bell.bind(f"/proc/self/fd/{directory}/{os.path.basename(self.where.beside(self.mark, 'bell'))}")
        os.close(directory)
        return bell

    def close(self) -> None:
        self.session.connection.close()
