"""The sliding window: never more than the limit, whatever comes when."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.rate_limits import WINDOW_SECONDS, SlidingWindow

ROUNDING = 1e-9
PAUSES = st.floats(0, 40, allow_nan=False) | st.sampled_from([0.0, 0.5, 1.0, 59.0, 60.0, 61.0])


@given(limit=st.integers(1, 50), steps=st.lists(st.tuples(PAUSES, st.integers(1, 30))))
def test_no_sixty_seconds_hold_more_than_the_limit(limit, steps):
    window, now, taken = SlidingWindow(limit), 1000.25, []
    for pause, amount in steps:
        now += pause
        if window.take(amount, now) is not None:
            taken.append((now, amount))
        assert 0 <= window.remaining(now) <= limit
        within = sum(amount for time, amount in taken if time > now - WINDOW_SECONDS)
        assert within <= limit


@given(limit=st.integers(1, 50), steps=st.lists(st.tuples(PAUSES, st.integers(1, 30))))
def test_what_is_refused_fits_when_it_was_said(limit, steps):
    window, now = SlidingWindow(limit), 5.5
    for pause, amount in steps:
        now += pause
        wait = window.retry_after(amount, now)
        if window.take(amount, now) is not None:
            assert wait == 0
        elif amount > limit:
            assert wait == math.inf
        else:
            assert 0 < wait <= WINDOW_SECONDS
            now += wait + ROUNDING
            assert window.take(amount, now) is not None


@given(
    limit=st.integers(1, 100),
    requests=st.lists(st.tuples(PAUSES, st.integers(1, 60), st.integers(0, 60), PAUSES)),
)
def test_what_is_used_is_charged_and_the_rest_comes_back(limit, requests):
    """With answers no longer than reserved, what was used stays within the limit."""
    window, now, used_at = SlidingWindow(limit), 0.0, []
    for pause, reserved, wished, duration in requests:
        now += pause
        charge = window.take(reserved, now)
        if charge is None:
            continue
        used = min(reserved, wished)
        used_at.append((now, used))
        now += duration
        window.settle(charge, reserved, used, now)
        within = sum(used for time, used in used_at if time > now - WINDOW_SECONDS)
        assert within <= limit
        assert window.remaining(now) <= limit - within


def test_more_than_reserved_is_charged_when_it_is_known():
    window = SlidingWindow(10)
    charge = window.take(2, 0.0)
    assert charge is not None
    window.settle(charge, 2, 30, 5.0)
    assert window.remaining(5.0) == 0
    assert window.take(1, 60.0) is None
    assert window.remaining(66.0) == 10


def test_a_settlement_after_the_window_gives_nothing_back_twice():
    window = SlidingWindow(10)
    charge = window.take(10, 0.0)
    assert charge is not None
    window.settle(charge, 10, 1, 200.0)
    assert window.remaining(200.0) == 10
    assert window.take(10, 200.0) is not None
    assert window.remaining(200.0) == 0


def test_the_limit_resets_with_the_last_that_was_taken():
    window = SlidingWindow(10)
    assert window.reset_after(3.0) == 0
    window.take(1, 3.5)
    charge = window.take(1, 20.0)
    assert window.reset_after(20.0) == 60.0
    assert charge is not None
    window.settle(charge, 1, 0, 21.0)
    assert window.reset_after(21.0) == 42.5


@given(limit=st.integers(1, 50), steps=st.lists(st.tuples(PAUSES, st.integers(1, 30)), min_size=1))
def test_the_whole_limit_is_back_after_a_minute_at_most(limit, steps):
    window, now = SlidingWindow(limit), 1000.25
    for pause, amount in steps:
        now += pause
        window.take(amount, now)
        assert 0 <= window.reset_after(now) <= WINDOW_SECONDS
    assert window.remaining(now + window.reset_after(now) + ROUNDING) == limit


def test_memory_has_an_end():
    window = SlidingWindow(1_000_000)
    for number in range(100_000):
        window.take(1, number / 500)
    assert len(window._charges) <= WINDOW_SECONDS + 2
