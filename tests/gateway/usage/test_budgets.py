"""Days, months and what a key may use in them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BudgetExhausted
from gateway.settings.schema import PriceSettings
from gateway.store.usage import Counts, UsageKey
from gateway.usage.budgets import Budget, Unit, check_budgets, cost_of, used_of
from gateway.usage.periods import Period, end_of, hour_of, start_of
from gateway.usage.totals import Totals

PERIODS: tuple[Period, ...] = ("day", "month")
NOON = datetime(2026, 12, 31, 12, tzinfo=UTC).timestamp()
PRICES = {"m": PriceSettings(input=2.0, cached_input=0.5, output=10.0)}


@given(st.datetimes(datetime(1970, 2, 1), datetime(2200, 1, 1)))
def test_periods_hold_their_times_and_follow_one_another(when: datetime) -> None:
    time = when.replace(tzinfo=UTC).timestamp()
    for period in PERIODS:
        start, end = start_of(period, time), end_of(period, time)
        assert start <= time < end
        assert start_of(period, end) == end
        assert end_of(period, start) == end
        assert start_of(period, start - 1) < start
        first = datetime.fromtimestamp(start, UTC)
        assert (first.hour, first.minute, first.second) == (0, 0, 0)
        assert period == "day" or first.day == 1
        assert start <= hour_of(time) <= time < hour_of(time) + 3600


def totals(*used: tuple[float, Counts]) -> Totals:
    made = Totals()
    for time, counts in used:
        made.add(UsageKey(hour_of(time), "ann", "m", "/x"), counts)
    return made


@pytest.mark.parametrize(
    ("unit", "period", "limit", "is_over"),
    [
        ("tokens", "day", 15, True),
        ("tokens", "day", 16, False),
        ("tokens", "month", 30, True),
        ("tokens", "month", 31, False),
        ("cost", "day", 66e-6, True),
        ("cost", "day", 68e-6, False),
        ("cost", "month", 133e-6, True),
        ("cost", "month", 135e-6, False),
    ],
)
def test_limits(unit: Unit, period: Period, limit: float, is_over: bool) -> None:
    used = Counts(1, 10, 2, 5)  # 8 x 2 + 2 x 0.5 + 5 x 10 = 67
    spent = totals((NOON, used), (NOON - timedelta(days=2).total_seconds(), used))
    budget = Budget(unit, period, limit)
    if is_over:
        with pytest.raises(BudgetExhausted, match=rf"`{unit}_per_{period}`.*2027-01-01 00:00 UTC"):
            check_budgets("ann", [budget], spent, PRICES, NOON)
    else:
        check_budgets("ann", [budget], spent, PRICES, NOON)
    check_budgets("bob", [budget], spent, PRICES, NOON)
    check_budgets("ann", [budget], spent, PRICES, NOON + 86_400)


def test_costs() -> None:
    used = Counts(1, 1_000_000, 250_000, 500_000)
    assert cost_of(used, PriceSettings(input=2, output=10)) == pytest.approx(2 + 5)
    assert cost_of(used, PriceSettings(input=2, cached_input=0, output=10)) == pytest.approx(6.5)
    assert used_of("cost", {"m": used, "free": used}, {"m": PriceSettings(input=1)}) == 1
    assert used_of("tokens", {"m": used, "free": used}, {}) == 3_000_000


def test_months_of_long_ago_are_forgotten() -> None:
    day = 86_400
    spent = totals((NOON, Counts(1)), (NOON + 200 * day, Counts(1)))
    assert spent.of("ann", "month", NOON) == {}
    assert spent.of("ann", "month", NOON + 200 * day) == {"m": Counts(1)}
