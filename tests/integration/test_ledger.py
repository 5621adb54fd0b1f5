"""The daemon's one writer: what it commits together, what it keeps, what it refuses."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from queues import Queue, running_ledger
from waiting import eventually

from spoold.lifecycle import Event, InDoubtPolicy, State
from spoold.outcome import Reply
from spoold.store.spooling import Result

OK = Reply(250, "2.0.0", "taken")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue.at(tmp_path)
    yield made
    made.close()


def accepted(id_: int, token: int = 1) -> Result:
    return Result(id_, token, Event.ACCEPTED, OK, "relay", "host:25", counts=True)


async def test_claims_come_in_order_of_submission_within_a_priority(queue: Queue) -> None:
    entry_ids = [queue.submit() for _ in range(20)]
    async with running_ledger(queue) as running:
        first = await running.ledger.claim(1, None, 7)
        second = await running.ledger.claim(1, None, 100)
    assert [claim.entry_id for claim in first + second] == entry_ids


async def test_a_lock_takes_all_recipients_of_a_delivery_or_none(queue: Queue) -> None:
    entry_id = queue.submit("ann@example.com", "bob@example.com")
    other = queue.submit("cid@example.com")
    async with running_ledger(queue) as running:
        ann, bob, cid = await running.claim_all()
        queue.rows("UPDATE spoold_recipient SET state = 'aborted', token = NULL, abort_wish = 1 WHERE id = ?", bob.id)
        both, alone = await asyncio.gather(running.ledger.lock(1, [ann.id, bob.id]), running.ledger.lock(1, [cid.id]))
    assert (both, alone) == ([bob.id], [])
    assert queue.states() == ["claimed", "aborted", "locked"]
    assert entry_id != other


async def test_after_an_abort_nothing_can_be_locked(queue: Queue) -> None:
    entry_id = queue.submit()
    async with running_ledger(queue) as running:
        (claim,) = await running.claim_all()
        queue.abort(entry_id)
        assert await running.ledger.lock(1, [claim.id]) == [claim.id]
    assert queue.states() == ["aborted"]


async def test_a_lock_under_another_token_is_refused(queue: Queue) -> None:
    queue.submit()
    async with running_ledger(queue) as running:
        (claim,) = await running.claim_all()
        assert await running.ledger.lock(2, [claim.id]) == [claim.id]
    assert queue.states() == ["claimed"]


async def test_a_lock_that_was_cancelled_while_it_was_committed_can_be_given_back(queue: Queue) -> None:
    queue.submit()
    async with running_ledger(queue) as running:
        (claim,) = await running.claim_all()
        asking = asyncio.create_task(running.ledger.lock(1, [claim.id]))
        await asyncio.sleep(0)  # the request is made
        await eventually(lambda: queue.states() == ["locked"])  # it is committed
        asking.cancel()
        running.ledger.settle([Result(claim.id, 1, Event.GIVE_BACK)])
        await running.ledger.flush()
    assert queue.states() == ["queued"]
    assert queue.rows("SELECT in_doubt, attempts FROM spoold_recipient") == [(0, 0)]


async def test_results_that_cannot_be_written_are_kept_and_nothing_is_claimed_meanwhile(queue: Queue) -> None:
    queue.submit()
    queue.submit()
    async with running_ledger(queue) as running:
        (claim,) = await running.ledger.claim(1, None, 1)
        assert not await running.ledger.lock(1, [claim.id])
        blocker = sqlite3.connect(queue.where.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        running.ledger.settle([accepted(claim.id)])
        claiming = asyncio.create_task(running.ledger.claim(1, None, 1))
        await eventually(lambda: not running.ledger.writable)
        assert claiming.done() is False
        blocker.execute("ROLLBACK")
        blocker.close()
        (other,) = await claiming
        assert other.id != claim.id
        assert running.ledger.writable
    assert queue.states() == ["sent", "claimed"]


async def test_a_lock_that_cannot_be_committed_is_a_lock_not_taken(queue: Queue) -> None:
    queue.submit()
    async with running_ledger(queue) as running:
        (claim,) = await running.claim_all()
        blocker = sqlite3.connect(queue.where.path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        assert await running.ledger.lock(1, [claim.id]) == [claim.id]
        blocker.execute("ROLLBACK")
        blocker.close()
    assert queue.states() == ["claimed"]


async def test_a_result_under_a_lost_claim_changes_nothing_but_a_late_acceptance_settles(queue: Queue) -> None:
    queue.submit("ann@example.com")
    queue.submit("bob@example.com")
    async with running_ledger(queue) as running:
        ann, bob = await running.claim_all()
        await running.ledger.lock(1, [ann.id])
        await running.ledger.lock(1, [bob.id])
        queue.rows("UPDATE spoold_recipient SET state = 'queued', token = NULL, in_doubt = 1")
        running.ledger.settle([accepted(ann.id), Result(bob.id, 1, Event.REJECTED, OK)])
        await running.ledger.flush()
        assert [one.after and one.after.state for one in running.settled] == [State.SENT, None]
    assert queue.states() == ["sent", "queued"]


async def test_an_acceptance_without_a_lock_is_in_doubt_even_over_an_abort(queue: Queue) -> None:
    entry_id = queue.submit()
    async with running_ledger(queue) as running:
        (claim,) = await running.claim_all()
        queue.abort(entry_id)
        running.ledger.settle([Result(claim.id, 1, Event.VIOLATION, OK)])
        await running.ledger.flush()
    assert queue.states() == ["in_doubt"]
    assert queue.rows("SELECT in_doubt FROM spoold_recipient") == [(1,)]


@pytest.mark.parametrize(("policy", "state"), [(InDoubtPolicy.RETRY, "queued"), (InDoubtPolicy.HOLD, "held")])
async def test_what_is_in_doubt_goes_by_the_policy(queue: Queue, policy: InDoubtPolicy, state: str) -> None:
    queue.submit()
    async with running_ledger(queue, policy) as running:
        (claim,) = await running.claim_all()
        await running.ledger.lock(1, [claim.id])
        running.ledger.settle([Result(claim.id, 1, Event.DOUBT, OK)])
        await running.ledger.flush()
    assert queue.states() == [state]


async def test_what_is_waiting_is_committed_together(queue: Queue) -> None:
    for _ in range(50):
        queue.submit()
    async with running_ledger(queue) as running:
        claims = await running.claim_all()
        before = running.ledger.commits
        await asyncio.gather(*(running.ledger.lock(1, [claim.id]) for claim in claims))
        assert running.ledger.commits - before <= 2
        running.ledger.settle(accepted(claim.id) for claim in claims)
        await running.ledger.flush()
        assert running.ledger.commits - before <= 4
    assert set(queue.states()) == {"sent"}


async def test_others_commits_are_noticed_and_the_ledgers_own_are_not(queue: Queue) -> None:
    async with running_ledger(queue) as running:
        await running.claim_all()
        await eventually(lambda: running.changes)  # the first look
        seen = running.changes
        for _ in range(20):
            await running.ledger.write(lambda session: session.rows("UPDATE spoold_key SET created = created"))
            await asyncio.sleep(0.01)
        assert running.changes == seen
        queue.submit()
        await eventually(lambda: running.changes > seen)


async def test_an_attempt_whose_claim_was_overridden_cannot_use_the_next_claim_of_the_same_spooler(
    queue: Queue,
) -> None:
    """Held and released in mid-attempt: the spooler claims it anew, and the old attempt must not lock or settle it."""
    queue.submit()
    async with running_ledger(queue) as running:
        (old,) = await running.ledger.claim(1, None, 1)
        queue.rows("UPDATE spoold_recipient SET state = 'held', token = NULL, changed = changed")
        queue.rows("UPDATE spoold_recipient SET state = 'queued', changed = changed")
        (new,) = await running.ledger.claim(2, None, 1)
        both = await asyncio.gather(running.ledger.lock(1, [old.id]), running.ledger.lock(2, [new.id]))
        assert list(both) == [[old.id], []]
        running.ledger.settle([Result(old.id, 1, Event.GIVE_BACK), Result(old.id, 1, Event.REJECTED, OK)])
        await running.ledger.flush()
        assert queue.states() == ["locked"]
        running.ledger.settle([accepted(new.id, 2)])
        await running.ledger.flush()
    assert queue.states() == ["sent"]


async def test_a_reply_that_is_no_unicode_is_written_all_the_same(queue: Queue) -> None:
    queue.submit()
    async with running_ledger(queue) as running:
        (claim,) = await running.claim_all()
        running.ledger.settle([Result(claim.id, 1, Event.REJECTED, Reply(550, None, "no \ud800"))])
        await running.ledger.flush()
    assert queue.rows("SELECT state, reply_text FROM spoold_recipient") == [("failed", "no ?")]
