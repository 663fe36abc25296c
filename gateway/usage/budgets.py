"""What a key may use in a day and in a month."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from gateway.errors import BudgetExhausted
from gateway.settings.schema import PriceSettings
from gateway.store.usage import Counts
from gateway.usage.periods import Period, end_of
from gateway.usage.totals import Totals

Unit = Literal["tokens", "cost"]

MILLION = 1_000_000


class Budget(Struct, frozen=True):
    """`limit` tokens of prompts and answers, or the same in the currency of the prices, in each day
    or month of UTC."""

    unit: Unit
    period: Period
    limit: float


def check_budgets(
    owner: str,
    budgets: Iterable[Budget],
    totals: Totals,
    prices: Mapping[str, PriceSettings],
    now: float,
) -> None:
    """Raises BudgetExhausted if the owner has used up one of the budgets."""
    for budget in budgets:
        used = used_of(budget.unit, totals.of(owner, budget.period, now), prices)
        if used >= budget.limit:
            raise BudgetExhausted(_refusal(owner, budget, used, now))


def used_of(
    unit: Unit, by_model: Mapping[str, Counts], prices: Mapping[str, PriceSettings]
) -> float:
    """The tokens, or what they cost."""
    if unit == "tokens":
        return sum(counts.total_tokens for counts in by_model.values())
    costs = (
        cost_of(counts, prices[model]) for model, counts in by_model.items() if model in prices
    )
    return sum(costs)


def cost_of(counts: Counts, price: PriceSettings) -> float:
    """What the tokens of one model cost."""
    cached = price.input if price.cached_input is None else price.cached_input
    fresh_tokens = counts.input_tokens - counts.cached_tokens
    input_cost = fresh_tokens * price.input + counts.cached_tokens * cached
    return (input_cost + counts.output_tokens * price.output) / MILLION


def _refusal(owner: str, budget: Budget, used: float, now: float) -> str:
    end = datetime.fromtimestamp(end_of(budget.period, now), UTC)
    is_cost = budget.unit == "cost"
    name = f"{budget.unit}_per_{budget.period}"
    limit, spent = (f"{each:,.2f}" if is_cost else f"{each:,.0f}" for each in (budget.limit, used))
    what = "" if is_cost else " tokens"
    return (
        f"The key `{owner}` has used up its budget of {limit}{what} a {budget.period} (`{name}`):"
        f" it has used {spent}. The next {budget.period} begins at {end:%Y-%m-%d %H:%M} UTC. Ask"
        " whoever runs this server for more."
    )
