"""How large a `multipleOf` is."""

from typing import Any

import pytest

from runtime.structured.schemas.divisors import MAX_DIVISOR, num_states_of


@pytest.mark.parametrize("number", [99_999_989, 99_999_989.0, -99_999_989, 10**30 + 1, 10**400])
def test_what_is_too_large_is_told(number: Any) -> None:
    assert num_states_of(number) > MAX_DIVISOR


@pytest.mark.parametrize(
    "number", [7, 0.01, 1234.5678, 10**30, 86_400, 604_800, 0, "7", True, None, float("inf")]
)
def test_other_numbers_may_be_tried(number: Any) -> None:
    assert num_states_of(number) <= MAX_DIVISOR
