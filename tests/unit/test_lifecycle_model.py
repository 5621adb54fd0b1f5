"""Every interleaving of the protocol, with the transitions of lifecycle.step: two spoolers, an aborter, one server.

Invariants tested: aborted is true (the server never said yes); two acceptances leave the mark; nothing is stuck; an end
is the end, but for a late yes to what is in doubt. Broken transitions must be caught.
"""

from collections import deque
from collections.abc import Callable, Iterator

import pytest

from spoold.lifecycle import FINAL, Event, InDoubtPolicy, Situation, State, step

Step = Callable[[Situation, Event, InDoubtPolicy], Situation | None]
Spooler = tuple[str, int]  # how far it is, and the token it claimed with
World = tuple[
    Situation, int, int, tuple[Spooler, Spooler], int
]  # recipient, its token, next token, spoolers, times yes
START: World = (Situation(State.QUEUED), 0, 1, (("idle", 0), ("idle", 0)), 0)
CLAIMS = 4  # more tokens make more of the same
IDLE: Spooler = ("idle", 0)


def owned(after: Situation, token: int) -> int:
    return token if after.state in (State.CLAIMED, State.LOCKED) else 0


def moves(  # noqa: C901 - a branch for each step of the protocol
    world: World, policy: InDoubtPolicy, step: Step, compare_and_set: bool
) -> Iterator[tuple[str, World]]:
    now, token, fresh, spoolers, yes = world
    for event in (Event.ABORT, Event.HOLD, Event.RELEASE, Event.LEASE_LOST):
        after = step(now, event, policy)
        if after is not None and after != now:
            yield event, (after, owned(after, token), fresh, spoolers, yes)
    for i in (0, 1):
        at, mine = spoolers[i]

        def put(
            spooler: Spooler,
            after: Situation = now,
            *,
            token: int = token,
            fresh: int = fresh,
            yes: int = yes,
            i: int = i,
        ) -> World:
            return after, owned(after, token), fresh, (spooler, spoolers[1]) if i == 0 else (spoolers[0], spooler), yes

        def result(event: Event, mine: int = mine, put: Callable[..., World] = put) -> World:
            """Under the token, or late: then only an acceptance of what nobody holds counts."""
            applied = event if token == mine else Event.LATE_ACCEPTED if event is Event.ACCEPTED and not token else None
            after = step(now, applied, policy) if applied is not None else None
            return put(IDLE, now if after is None else after)

        if at != "idle":
            yield f"crash {i}", put(IDLE)
        if at == "idle" and fresh <= CLAIMS and (after := step(now, Event.CLAIM, policy)) is not None:
            yield f"claim {i}", put(("claimed", fresh), after, token=fresh, fresh=fresh + 1)
        if at == "claimed":
            yield f"body {i}", put(("body", mine))
            for event in (Event.DEFERRED, Event.GIVE_BACK, Event.NOT_MINE, Event.REJECTED):
                yield f"{event} {i}", result(event)
        if at == "body":
            if token == mine or not compare_and_set:
                after = step(now, Event.LOCK, policy) or Situation(State.LOCKED, now.marked, now.wish)
                yield f"lock {i}", put(("locked", mine), after, token=mine)
            else:
                yield f"lock refused {i}", put(IDLE)
        if at == "locked":
            yield f"dot {i}", put(("dotted", mine))
            yield f"give back {i}", result(Event.GIVE_BACK)
        if at == "dotted":
            if yes < 2:
                yield f"yes {i}", put(("yes", mine), yes=yes + 1)
                yield f"yes, unheard {i}", put(("silent", mine), yes=yes + 1)
            yield f"no {i}", put(("no", mine))
            yield f"not taken, unheard {i}", put(("silent", mine))
        if at == "yes":
            yield f"record yes {i}", result(Event.ACCEPTED)
        if at == "no":
            yield f"record no {i}", result(Event.DEFERRED)
            yield f"record never {i}", result(Event.REJECTED)
        if at == "silent":
            yield f"record doubt {i}", result(Event.DOUBT)


def explore(policy: InDoubtPolicy, step: Step = step, compare_and_set: bool = True) -> set[str]:
    """The invariants that are broken somewhere."""
    broken: set[str] = set()
    seen, todo = {START}, deque([START])
    before: dict[World, list[World]] = {}
    while todo:
        world = todo.popleft()
        now, _, _, _, yes = world
        if now.state is State.ABORTED and yes:
            broken.add("aborted, but the server said yes")
        if yes == 2 and not now.marked and now.state in FINAL:
            broken.add("accepted twice without the mark")
        for _, found in moves(world, policy, step, compare_and_set):
            after = found[0].state
            if now.state in FINAL and after is not now.state and (now.state, after) != (State.IN_DOUBT, State.SENT):
                broken.add("an end was not the end")
            before.setdefault(found, []).append(world)
            if found not in seen:
                seen.add(found)
                todo.append(found)
    ends = {w for w in seen if w[0].state in FINAL or (w[0].state in (State.QUEUED, State.HELD) and w[2] > CLAIMS)}
    reaching, todo = set(ends), deque(ends)
    while todo:
        for world in before.get(todo.popleft(), ()):
            if world not in reaching:
                reaching.add(world)
                todo.append(world)
    if seen - reaching:
        broken.add("stuck")
    return broken


@pytest.mark.parametrize("policy", InDoubtPolicy)
def test_no_interleaving_breaks_the_protocol(policy: InDoubtPolicy) -> None:
    assert explore(policy) == set()


def without_mark(now: Situation, event: Event, policy: InDoubtPolicy) -> Situation | None:
    after = step(now, event, policy)
    return after and Situation(after.state, now.marked, after.wish)


def late_results_always_count(now: Situation, event: Event, policy: InDoubtPolicy) -> Situation | None:
    if event is Event.LATE_ACCEPTED:
        return Situation(State.SENT, now.marked, now.wish)
    return step(now, event, policy)


def abort_takes_what_is_locked(now: Situation, event: Event, policy: InDoubtPolicy) -> Situation | None:
    if event is Event.ABORT and now.state is State.LOCKED:
        return Situation(State.ABORTED, now.marked, wish=True)
    return step(now, event, policy)


def no_lease_is_ever_lost(now: Situation, event: Event, policy: InDoubtPolicy) -> Situation | None:
    return None if event is Event.LEASE_LOST else step(now, event, policy)


def test_an_unconditional_lock_is_caught() -> None:
    assert "aborted, but the server said yes" in explore(InDoubtPolicy.RETRY, compare_and_set=False)


@pytest.mark.parametrize(
    ("mutant", "what"),
    [
        (without_mark, {"aborted, but the server said yes", "accepted twice without the mark"}),
        (late_results_always_count, {"an end was not the end"}),
        (abort_takes_what_is_locked, {"aborted, but the server said yes"}),
        (no_lease_is_ever_lost, {"stuck"}),
    ],
)
def test_a_broken_transition_is_caught(mutant: Step, what: set[str]) -> None:
    assert explore(InDoubtPolicy.RETRY, mutant) >= what
