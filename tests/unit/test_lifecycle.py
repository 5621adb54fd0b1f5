from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.lifecycle import (
    FINAL,
    IN_FLIGHT,
    TABLE,
    WITHDRAWABLE,
    Event,
    InDoubtPolicy,
    Row,
    Situation,
    State,
    message_state,
    step,
)

LATE = {Event.LATE_ACCEPTED, Event.VIOLATION}
DECIDES_NOTHING = {Event.DOUBT, Event.LEASE_LOST}
SITUATIONS = [Situation(*parts) for parts in product(State, (False, True), (False, True))]
CASES = [(*parts,) for parts in product(SITUATIONS, Event, InDoubtPolicy)]

policies = st.sampled_from(InDoubtPolicy)
ways = st.lists(st.sampled_from(Event), max_size=40)


def walk(
    events: list[Event], policy: InDoubtPolicy, start: State = State.QUEUED
) -> list[tuple[Situation, Event, Situation]]:
    """What happens to a recipient; events that do not apply are left out."""
    now, taken = Situation(start), []
    for event in events:
        after = step(now, event, policy)
        if after is not None:
            taken.append((now, event, after))
            now = after
    return taken


# -- the table ---------------------------------------------------------------------------------------------------------


def applies(row: Row, now: Situation, event: Event, policy: InDoubtPolicy) -> bool:
    return (
        (row.state, row.event) == (now.state, event)
        and row.marked in (None, now.marked)
        and row.wish in (None, now.wish)
        and row.policy in (None, policy)
    )


@pytest.mark.parametrize("policy", InDoubtPolicy)
def test_at_most_one_row_applies_to_whatever_happens(policy: InDoubtPolicy) -> None:
    for now, event in product(SITUATIONS, Event):
        rows = [row for row in TABLE if applies(row, now, event, policy)]
        assert len(rows) <= 1, (now, event)
        assert (step(now, event, policy) is not None) == bool(rows)


def test_guards_leave_no_gap() -> None:
    for state, event in {(row.state, row.event) for row in TABLE}:
        for marked, wish, policy in product((False, True), (False, True), InDoubtPolicy):
            if state is State.LOCKED or not wish:  # a wish is kept with what is locked alone
                assert step(Situation(state, marked, wish), event, policy) is not None, (state, event)


def test_every_row_can_happen() -> None:
    reached = {Situation(State.QUEUED), Situation(State.HELD)}
    while True:
        more = {
            after
            for now, event, policy in product(reached, Event, InDoubtPolicy)
            if (after := step(now, event, policy)) is not None and after not in reached
        }
        if not more:
            break
        reached |= more
    for row in TABLE:
        if row.state is not State.EXPANDED:  # aliases are expanded at intake, not by an event
            assert any(applies(row, now, row.event, row.policy or InDoubtPolicy.RETRY) for now in reached), row
    for now in reached:
        assert not (now.wish and now.state in WITHDRAWABLE), "who is wanted back is never tried again"


# -- what must never happen --------------------------------------------------------------------------------------------


@given(ways, policies)
def test_the_mark_and_the_wish_are_never_taken_off(events: list[Event], policy: InDoubtPolicy) -> None:
    for now, _, after in walk(events, policy):
        assert after.marked >= now.marked
        assert after.wish >= now.wish


@given(ways, policies)
def test_aborted_is_never_said_where_a_server_may_have_said_yes(events: list[Event], policy: InDoubtPolicy) -> None:
    undecided = False
    for now, event, after in walk(events, policy):
        undecided |= event is Event.VIOLATION or (now.state is State.LOCKED and event in DECIDES_NOTHING)
        assert not (undecided and after.state is State.ABORTED)
        assert after.state is not State.ABORTED or not after.marked


@given(ways, policies)
def test_a_lock_that_decided_nothing_leaves_the_mark(events: list[Event], policy: InDoubtPolicy) -> None:
    for now, event, after in walk(events, policy):
        if now.state is State.LOCKED and event in DECIDES_NOTHING:
            assert after.marked


@given(ways, policies)
def test_a_final_state_is_left_only_by_a_late_acceptance_or_a_violation(
    events: list[Event], policy: InDoubtPolicy
) -> None:
    for now, event, after in walk(events, policy):
        if now.state in FINAL and after.state is not now.state:
            assert event in LATE
        assert now.state is not State.SENT, "sent is the end of everything"
        if event is Event.LATE_ACCEPTED:
            assert after.state is State.SENT


@given(ways, policies)
def test_while_it_is_locked_no_abort_succeeds(events: list[Event], policy: InDoubtPolicy) -> None:
    for now, event, after in walk(events, policy):
        if event is Event.ABORT:
            assert (after.state is State.LOCKED) == (now.state is State.LOCKED)
            assert after.wish


@given(ways, policies)
def test_after_an_abort_nothing_is_tried_again(events: list[Event], policy: InDoubtPolicy) -> None:
    for now, _, after in walk(events, policy):
        if now.wish:
            assert after.state in FINAL | {State.LOCKED}


@given(ways, policies)
def test_sent_needs_a_lock_that_was_taken(events: list[Event], policy: InDoubtPolicy) -> None:
    locked = False
    for now, event, after in walk([event for event in events if event is not Event.LATE_ACCEPTED], policy):
        locked |= event is Event.LOCK
        assert locked or after.state is not State.SENT
        assert (event is Event.LOCK) == (after.state is State.LOCKED and now.state is not State.LOCKED)


@given(ways)
def test_at_most_once_is_at_most_once(events: list[Event]) -> None:
    held_until_released = False
    for _, event, after in walk(events, InDoubtPolicy.HOLD):
        if event in DECIDES_NOTHING and after.marked:
            held_until_released |= after.state is State.HELD
        if event is Event.RELEASE:
            held_until_released = False
        assert not (held_until_released and after.state in IN_FLIGHT)


def test_from_everywhere_an_end_can_be_reached() -> None:
    for now, policy in product(SITUATIONS, InDoubtPolicy):
        todo, seen = [now], {now}
        while todo and not any(found.state in FINAL for found in seen):
            current = todo.pop()
            found = {after for event in Event if (after := step(current, event, policy)) is not None} - seen
            seen |= found
            todo.extend(found)
        assert any(found.state in FINAL for found in seen), now


# -- messages ----------------------------------------------------------------------------------------------------------


@given(st.sets(st.sampled_from(State)))
def test_a_message_has_the_first_state_that_applies_else_what_all_share_else_partial(states: set[State]) -> None:
    found = message_state(states)
    if not states:
        assert found == "draft"
    elif State.LOCKED in states:
        assert found == "locked"
    elif states & {State.QUEUED, State.CLAIMED}:
        assert found == "queued"
    elif State.HELD in states:
        assert found == "held"
    elif State.IN_DOUBT in states:
        assert found == "in_doubt"
    elif len(rest := states - {State.EXPANDED}) == 1:
        assert found == rest.pop()
    else:
        assert found == ("partial" if rest else "expanded")
