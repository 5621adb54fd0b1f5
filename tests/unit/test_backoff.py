import math

from hypothesis import given
from hypothesis import strategies as st

from spoold.backoff import Backoff

chance = st.floats(0, 1, exclude_max=True)
attempts = st.integers(1, 10_000)
backoffs = st.builds(
    Backoff,
    first=st.floats(0.001, 3600),
    factor=st.floats(1, 1000),
    maximum=st.floats(3600, 864_000),
    jitter=st.floats(0, 1, exclude_max=True),
)


@given(backoffs, attempts, chance)
def test_a_delay_lies_within_the_jitter_around_first_and_the_ceiling(
    backoff: Backoff, attempt: int, random: float
) -> None:
    delay = backoff.delay(attempt, random)
    assert math.isfinite(delay)
    low, high = backoff.first * (1 - backoff.jitter), backoff.maximum * (1 + backoff.jitter)
    assert low * 0.999999 <= delay <= high * 1.000001


@given(backoffs, attempts, chance)
def test_a_later_attempt_never_waits_for_less_at_the_same_chance(backoff: Backoff, attempt: int, random: float) -> None:
    assert backoff.delay(attempt, random) <= backoff.delay(attempt + 1, random)


@given(backoffs, chance)
def test_the_first_attempt_that_fails_waits_for_first(backoff: Backoff, random: float) -> None:
    assert backoff.delay(1, 0.5) == backoff.first
    assert backoff.delay(0, random) == backoff.delay(1, random)


def test_the_delays_double_up_to_the_ceiling() -> None:
    backoff = Backoff(first=60, factor=2, maximum=1000, jitter=0)
    assert [backoff.delay(attempt, 0.9) for attempt in range(1, 8)] == [60, 120, 240, 480, 960, 1000, 1000]


@given(backoffs, attempts, chance, st.floats(-1e9, 1e9))
def test_what_the_other_side_asks_for_is_taken_within_the_ceiling(
    backoff: Backoff, attempt: int, random: float, asked: float
) -> None:
    assert backoff.delay(attempt, random, asked) == min(max(asked, 0), backoff.maximum)
