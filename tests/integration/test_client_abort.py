"""An abort answers at once and truly, without a daemon, at every stage of a message's way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from both import KINDS, Both
from hand import Hand

from spoold import AbortResult, NotFound, NotInQueue, Spool, UnableToAbort, UsageError
from spoold.lifecycle import Event
from spoold.outcome import Reply
from spoold.store import selection
from spoold.store.database import QueuePath, create

PLAIN = b"From: app@example.com\nTo: ann@example.com\nCc: bob@example.org\nSubject: hello\n\nhello\n"
ANN, BOB = "ann@example.com", "bob@example.org"
LATER = Reply(451, "4.3.0", "later")


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    create(QueuePath.of(tmp_path / "queue.db"))
    return tmp_path / "queue.db"


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def spool(request: pytest.FixtureRequest, queue: Path) -> AsyncIterator[Both]:
    async with Both(request.param, queue) as both:
        yield both


@pytest.fixture
def hand(queue: Path) -> Iterator[Hand]:
    hand = Hand(queue)
    yield hand
    hand.close()


async def test_what_waits_is_withdrawn_and_cannot_be_withdrawn_twice(spool: Both) -> None:
    entry_id = await spool.submit(PLAIN)
    assert await spool.abort(entry_id) == AbortResult(aborted=(ANN, BOB))
    record = await spool.get(entry_id)
    assert (record.state, record.message_flags & 0xC) == ("aborted", 0x8)  # a draft again: UNSENT, not SUBMIT
    with pytest.raises(NotInQueue) as caught:
        await spool.abort(entry_id)
    assert (caught.value.state, caught.value.result) == ("aborted", AbortResult())
    assert await spool.list() == []


async def test_what_is_held_is_withdrawn(spool: Both) -> None:
    assert (await spool.abort(await spool.submit(PLAIN, hold=True))).aborted == (ANN, BOB)


async def test_an_entry_id_in_capitals_is_the_same(spool: Both) -> None:
    assert (await spool.abort((await spool.submit(PLAIN)).upper())).aborted == (ANN, BOB)


@pytest.mark.parametrize("entry_id", ["0" * 32, "", "7", "\udcff", "x" * 200])
async def test_an_unknown_entry_id_is_not_found(spool: Both, entry_id: str) -> None:
    for method in (spool.abort, spool.get, spool.content, spool.wait, spool.hold, spool.release, spool.flush):
        with pytest.raises(NotFound):
            await method(entry_id)


async def test_a_claim_is_overridden_and_its_late_results_change_nothing(spool: Both, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    claimed = hand.claim()
    assert (await spool.get(entry_id)).recipients[0].state == "claimed"
    assert (await spool.abort(entry_id)).aborted == (ANN, BOB)
    for event in (Event.DEFERRED, Event.REJECTED, Event.GIVE_BACK, Event.ACCEPTED):
        hand.settle(claimed, event, LATER)
        assert (await spool.get(entry_id)).state == "aborted"


async def test_what_is_locked_cannot_be_withdrawn_but_the_wish_counts_if_that_attempt_fails(
    spool: Both, hand: Hand
) -> None:
    entry_id = await spool.submit(PLAIN)
    locked = hand.lock()
    with pytest.raises(UnableToAbort) as caught:
        await spool.abort(entry_id)
    assert caught.value.result == AbortResult(locked=(ANN, BOB))
    assert (await spool.get(entry_id)).state == "locked"
    hand.settle(locked, Event.DEFERRED, LATER)
    assert (await spool.get(entry_id)).state == "aborted"


async def test_what_is_locked_and_accepted_was_sent_in_spite_of_the_wish(spool: Both, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    locked = hand.lock()
    with pytest.raises(UnableToAbort):
        await spool.abort(entry_id)
    hand.settle(locked, Event.ACCEPTED)
    with pytest.raises(NotInQueue) as caught:
        await spool.abort(entry_id)
    assert (caught.value.state, caught.value.result) == ("sent", AbortResult(sent=(ANN, BOB)))


async def test_a_partial_abort_names_what_was_sent_and_what_is_locked(spool: Both, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    hand.send(ANN)
    assert await spool.abort(entry_id) == AbortResult(aborted=(BOB,), sent=(ANN,))
    assert (await spool.get(entry_id)).state == "partial"
    entry_id = await spool.submit(PLAIN)
    hand.lock(BOB)
    result = await spool.abort(entry_id)
    assert result == AbortResult(aborted=(ANN,), locked=(BOB,))
    assert result.partial


async def test_what_a_server_may_have_taken_is_not_called_aborted(spool: Both, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    hand.settle(hand.lock(ANN), Event.DOUBT)
    assert await spool.abort(entry_id) == AbortResult(aborted=(BOB,), in_doubt=(ANN,))
    assert (await spool.get(entry_id)).state == "in_doubt"
    with pytest.raises(UnableToAbort) as caught:
        await spool.abort(entry_id)
    assert caught.value.result == AbortResult(in_doubt=(ANN,))


# -- many --------------------------------------------------------------------------------------------------------------


async def test_many_are_withdrawn_by_sender_by_domain_and_by_destination(spool: Both, hand: Hand) -> None:
    first = await spool.submit(PLAIN)
    second = await spool.submit(PLAIN, sender="other@example.com")
    assert await spool.abort_matching(sender="other@example.com") == {second: AbortResult(aborted=(ANN, BOB))}
    # only the recipients that match: the other one of the same message goes its way
    assert await spool.abort_matching(destination="EXAMPLE.org") == {first: AbortResult(aborted=(BOB,))}
    assert (await spool.get(first)).state == "queued"
    hand.settle(hand.claim(ANN), Event.DEFERRED, LATER)
    assert await spool.abort_matching(destination="mx.example.com") == {first: AbortResult(aborted=(ANN,))}
    assert await spool.abort_matching(all=True) == {}


async def test_withdrawing_many_tells_of_those_that_could_not_be_withdrawn(spool: Both, hand: Hand) -> None:
    entry_ids = [await spool.submit(PLAIN), await spool.submit(PLAIN)]
    locked = hand.lock(ANN)
    assert await spool.abort_matching(all=True) == {
        entry_ids[0]: AbortResult(aborted=(BOB,), locked=(ANN,)),
        entry_ids[1]: AbortResult(aborted=(BOB,), locked=(ANN,)),
    }
    hand.settle(locked, Event.DEFERRED, LATER)
    assert [(await spool.get(entry_id)).state for entry_id in entry_ids] == ["aborted", "aborted"]


async def test_withdrawing_many_goes_in_bounded_transactions(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "MESSAGES", 3)
    monkeypatch.setattr(selection, "RECIPIENTS", 4)
    with Spool(queue) as spool:
        entry_ids = spool.submit_many([PLAIN] * 7)
        batches = list(spool.abort_batches(sender=None, destination=None, all_=True))
        assert [len(batch.aborted) for batch in batches] == [2, 2, 2, 1]
        assert [entry_id for batch in batches for entry_id, _ in batch.aborted] == entry_ids


@pytest.mark.parametrize("wrong", [{}, {"sender": "\udcff"}, {"destination": 7}])
async def test_withdrawing_many_needs_a_condition_that_makes_sense(spool: Both, wrong: dict[str, str]) -> None:
    entry_id = await spool.submit(PLAIN)
    with pytest.raises(UsageError):
        await spool.abort_matching(**wrong)
    assert (await spool.get(entry_id)).state == "queued"


# -- hold, release, flush ----------------------------------------------------------------------------------------------


async def test_what_is_held_is_not_claimed_until_it_is_released(spool: Both, hand: Hand) -> None:
    entry_id = await spool.submit(PLAIN)
    claimed = hand.claim(ANN)
    assert await spool.hold(entry_id) == 2
    hand.settle(claimed, Event.DEFERRED, LATER)
    assert [r.state for r in (await spool.get(entry_id)).recipients] == ["held", "held"]
    assert hand.claim() == {}
    assert await spool.release(entry_id) == 2
    assert list(hand.claim().values()) == [ANN, BOB]
    assert [e.kind for e in (await spool.get(entry_id)).events] == ["submitted", *["held"] * 2, *["released"] * 2]


async def test_hold_and_release_by_destination_touch_only_the_recipients_there(spool: Both) -> None:
    entry_id = await spool.submit(PLAIN)
    assert await spool.hold(destination="example.com") == 1
    assert [r.state for r in (await spool.get(entry_id)).recipients] == ["held", "queued"]
    assert await spool.release(destination="example.org") == 0
    assert await spool.hold(all=True) == 1
    assert await spool.release(all=True) == 2


async def test_hold_and_release_by_transport_touch_what_it_tried_last(spool: Both, hand: Hand) -> None:
    await spool.submit(PLAIN)
    hand.settle(hand.claim(BOB), Event.DEFERRED, LATER)
    assert await spool.hold(transport="relay") == 1
    assert await spool.hold(transport="other") == 0
    assert await spool.release(transport="relay") == 1


async def test_flush_makes_due_now_but_sends_a_scheduled_message_early_only_by_name(spool: Both, hand: Hand) -> None:
    deferred = await spool.submit(PLAIN)
    scheduled = await spool.submit(PLAIN, send_at="+1h")
    hand.settle(hand.claim(), Event.DEFERRED, LATER)  # due in 2033
    assert await spool.flush(destination="example.org") == 1
    assert await spool.flush() == 2
    for recipient in (await spool.get(deferred)).recipients:
        assert recipient.next_attempt_time < "2033"
    before = (await spool.get(scheduled)).recipients[0].next_attempt_time
    assert await spool.flush(scheduled) == 2
    assert (await spool.get(scheduled)).recipients[0].next_attempt_time < before
    assert (await spool.events())[-1].kind == "flushed"


@pytest.mark.parametrize("method", ["hold", "release"])
async def test_hold_and_release_need_to_be_told_what(spool: Both, method: str) -> None:
    with pytest.raises(UsageError, match="nothing is named"):
        await getattr(spool, method)()
    with pytest.raises(UsageError, match="not both"):
        await getattr(spool, method)("0" * 32, destination="example.com")
