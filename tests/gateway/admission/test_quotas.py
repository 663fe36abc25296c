"""Permits: what a key may use, and what its headers say."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.keys import KeyEntry, Principal
from gateway.admission.quotas import Quotas, duration
from gateway.errors import RateLimited


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def key(**limits: int) -> Principal:
    return Principal(name="alice", entry=KeyEntry(sha256="0" * 64, **limits))


def headers(quota) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in quota.headers()}


def test_so_many_at_a_time_and_no_more():
    quota = Quotas().of(key(max_concurrent_requests=2))
    first, _ = quota.enter(), quota.enter()
    with pytest.raises(RateLimited, match="at a time: 2") as caught:
        quota.enter()
    assert (caught.value.kind, caught.value.retry_after) == ("requests", 2.0)
    first.close()
    assert quota.enter()
    assert quota.headers() == []


def test_headers_tell_what_is_left():
    clock = Clock()
    quota = Quotas(clock).of(key(requests_per_minute=3, tokens_per_minute=1000))
    permit = quota.enter()
    clock.now += 0.5
    permit.reserve_tokens(400, lambda: 150)
    assert headers(quota) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "59.5s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "600",
        "x-ratelimit-reset-tokens": "1m0s",
    }
    permit.close()
    assert headers(quota)["x-ratelimit-remaining-tokens"] == "850"


def test_what_the_server_had_no_room_for_is_free():
    quota = Quotas(Clock()).of(key(requests_per_minute=1, tokens_per_minute=100))
    permit = quota.enter()
    permit.reserve_tokens(100, lambda: 60)
    permit.refund()
    permit.close()
    assert headers(quota)["x-ratelimit-remaining-tokens"] == "100"
    assert quota.enter()


def test_tokens_that_do_not_fit_now_and_tokens_that_never_fit():
    quota = Quotas(Clock()).of(key(tokens_per_minute=100))
    quota.enter().reserve_tokens(80, lambda: 80)
    with pytest.raises(RateLimited, match="has 20 left") as later:
        quota.enter().reserve_tokens(30, lambda: 0)
    assert later.value.retry_after == 60.0
    with pytest.raises(RateLimited, match="Ask with a smaller `max_tokens`") as never:
        quota.enter().reserve_tokens(101, lambda: 0)
    assert (never.value.kind, never.value.retry_after) == ("tokens", None)


def test_new_limits_keep_what_was_used():
    quotas = Quotas(Clock())
    quotas.of(key(requests_per_minute=2)).enter()
    quota = quotas.of(key(requests_per_minute=10))
    assert headers(quota)["x-ratelimit-remaining-requests"] == "9"
    assert quotas.of(key()).headers() == []


LIMITS = st.none() | st.integers(1, 6)


@given(st.lists(st.tuples(st.floats(0, 40), LIMITS, LIMITS, st.integers(1, 4), st.booleans())))
def test_no_sequence_of_changed_limits_is_a_refill(steps):
    """Whatever the limits were meanwhile, nobody gets more within a minute than the limit that
    holds says, counted over all of the minute."""
    clock = Clock()
    quotas = Quotas(clock)
    entered: list[float] = []
    tokens: list[tuple[float, int]] = []
    for pause, requests, most, amount, closes in steps:
        clock.now += pause
        limits = {"requests_per_minute": requests, "tokens_per_minute": most}
        quota = quotas.of(key(**limits))
        try:
            permit = quota.enter()
        except RateLimited:
            assert requests is not None
            # amounts leave the window by the second
            assert sum(time > clock.now - 61 for time in entered) >= requests
            continue
        entered.append(clock.now)
        assert requests is None or sum(time > clock.now - 60 for time in entered) <= requests
        try:
            permit.reserve_tokens(amount, lambda n=amount: n)
        except RateLimited:
            assert most is not None
            assert amount + sum(n for time, n in tokens if time > clock.now - 61) > most
        else:
            tokens.append((clock.now, amount))
            assert most is None or sum(n for time, n in tokens if time > clock.now - 60) <= most
        if closes:
            permit.close()


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 80), st.integers(0, 200), st.booleans()))
)
def test_whatever_happens_nothing_is_left_running(requests):
    """Remaining never leaves its bounds, also when answers are longer than what was reserved."""
    clock = Clock()
    quota = Quotas(clock).of(
        key(requests_per_minute=5, tokens_per_minute=100, max_concurrent_requests=3)
    )
    permits = []
    for pause, tokens, used, closes in requests:
        clock.now += pause
        with suppress(RateLimited):
            permits.append(quota.enter())
            permits[-1].reserve_tokens(tokens, lambda used=used: used)
        if closes and permits:
            permits.pop(0).close()
        assert quota.num_running == len(permits) <= 3
        shown = headers(quota)
        assert 0 <= int(shown["x-ratelimit-remaining-tokens"]) <= 100
        assert 0 <= int(shown["x-ratelimit-remaining-requests"]) <= 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.02, "20ms"), (1, "1s"), (12.3451, "12.346s"), (60, "1m0s"), (61.5, "1m1.5s")],
)
def test_durations_are_written_as_openai_does(seconds, text):
    assert duration(seconds).decode() == text
