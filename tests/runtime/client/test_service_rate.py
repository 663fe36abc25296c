"""The rate counts work, not idleness; what clients are told is within bounds."""

import pytest

from runtime.client.service_rate import (
    DEFAULT_RETRY_AFTER,
    MAX_RETRY_AFTER,
    MIN_RETRY_AFTER,
    WINDOW,
    ServiceRate,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rate(clock: Clock) -> ServiceRate:
    return ServiceRate(clock)


def serve(rate: ServiceRate, clock: Clock, num_requests: int, seconds: float) -> None:
    """One after another, the next one always waiting; nothing in flight at the end."""
    for remaining in reversed(range(num_requests)):
        rate.in_flight(remaining + 1)
        clock.now += seconds
        rate.completed()
        rate.in_flight(remaining)


def test_before_two_completions_there_is_a_default(rate, clock):
    assert rate.retry_after(7) == DEFAULT_RETRY_AFTER
    serve(rate, clock, 1, 3.0)
    assert rate.retry_after(7) == DEFAULT_RETRY_AFTER


def test_missing_places_over_completions_per_second(rate, clock):
    serve(rate, clock, 10, 2.0)

    assert rate.retry_after(1) == pytest.approx(2.0)
    assert rate.retry_after(5) == pytest.approx(10.0)


def test_idle_time_does_not_count(rate, clock):
    for _ in range(5):
        serve(rate, clock, 2, 2.0)
        clock.now += 10_000.0

    assert rate.retry_after(3) == pytest.approx(6.0)


def test_requests_that_end_together_are_not_taken_for_fast_ones(rate, clock):
    """Sixteen in one batch that took half a minute."""
    rate.in_flight(16)
    clock.now += 32.0
    for remaining in reversed(range(16)):
        rate.completed()
        rate.in_flight(remaining)

    assert rate.retry_after(4) == pytest.approx(8.0)


def test_an_engine_that_stalls_is_slow(rate, clock):
    serve(rate, clock, 10, 1.0)
    rate.in_flight(1)
    clock.now += 30.0

    assert rate.retry_after(1) == pytest.approx(4.0)


def test_only_the_latest_completions_count(rate, clock):
    serve(rate, clock, 50, 60.0)
    serve(rate, clock, WINDOW, 2.0)

    assert rate.retry_after(10) == pytest.approx(20.0)


def test_requests_that_are_given_up_are_work_but_no_completions(rate, clock):
    serve(rate, clock, 2, 2.0)
    rate.in_flight(1)
    clock.now += 6.0
    rate.in_flight(0)
    clock.now += 100.0

    assert rate.retry_after(1) == pytest.approx(5.0)


def test_what_clients_are_told_is_within_bounds(rate, clock):
    serve(rate, clock, 2, 1e-6)
    assert rate.retry_after(1) == MIN_RETRY_AFTER
    serve(rate, clock, WINDOW, 100.0)
    assert rate.retry_after(1000) == MAX_RETRY_AFTER
