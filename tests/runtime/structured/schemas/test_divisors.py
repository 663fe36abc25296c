"""How large a `multipleOf` is, and which numbers it leaves."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.compiler import compile_grammar
from runtime.structured.schemas.divisors import MAX_DIVISOR, listed_steps, num_states_of
from runtime.structured.vocabulary import grammar_tokenizer
from tests.kit.grammars import TOKENIZER

GRAMMAR_TOKENIZER = grammar_tokenizer(TOKENIZER)
TENTHS = st.integers(-30, 30).map(lambda number: number / 10)
FRACTIONS = st.sampled_from([0.1, 0.5, 0.25, 0.2, 0.05, 0.75, 1.5, 0.001])


def takes(part: dict[str, Any], text: str) -> bool:
    """Whether a strict schema lets the text be the answer. Raises InvalidRequest."""
    asked = StructuredOutput(json=json.dumps(part), source="x", is_strict=True)
    matcher, _ = compile_grammar(asked, GRAMMAR_TOKENIZER)
    token_ids = TOKENIZER.encode(text, add_special=False, parse_special=True)
    return all(matcher.consume_token(each) for each in token_ids) and matcher.is_accepting()


@pytest.mark.parametrize("number", [99_999_989, 99_999_989.0, -99_999_989, 10**30 + 1, 10**400])
def test_what_is_too_large_is_told(number: Any) -> None:
    assert num_states_of(number) > MAX_DIVISOR


@pytest.mark.parametrize(
    "number", [7, 0.01, 1234.5678, 10**30, 86_400, 604_800, 0, "7", True, None, float("inf")]
)
def test_other_numbers_may_be_tried(number: Any) -> None:
    assert num_states_of(number) <= MAX_DIVISOR


@pytest.mark.parametrize(
    ("part", "right", "wrong"),
    [
        ({"multipleOf": 0.1, "minimum": 0, "maximum": 1}, ["0", "0.3", "1"], ["0.35", "1.1"]),
        ({"multipleOf": 0.1, "minimum": 0.1, "maximum": 0.15}, ["0.1"], ["0.15", "0"]),
        ({"multipleOf": 0.1, "minimum": 0.3, "maximum": 0.3}, ["0.3"], ["0.2", "0.31"]),
        ({"multipleOf": 0.1, "exclusiveMinimum": 0, "maximum": 0.3}, ["0.1", "0.3"], ["0", "0.4"]),
        ({"multipleOf": 0.1, "minimum": 0.5, "exclusiveMaximum": 1}, ["0.5", "0.9"], ["1", "0.4"]),
        ({"multipleOf": 0.25, "minimum": 0.3, "maximum": 0.5}, ["0.5"], ["0.4", "0.3"]),
        ({"multipleOf": 0.25, "minimum": -0.5, "maximum": -0.5}, ["-0.5"], ["0.5", "-0.25"]),
        ({"multipleOf": 0.5, "minimum": 0.8, "maximum": 1.2, "type": "integer"}, ["1"], ["2"]),
        (
            {"multipleOf": 0.7, "minimum": 0.7, "maximum": 0.7, "type": ["number", "null"]},
            ["0.7", "null"],
            ["0.8", "true"],
        ),
    ],
)
def test_what_fits_a_fraction_and_its_bounds_is_taken(
    part: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    part = {"type": "number", **part}
    assert [takes(part, text) for text in right] == [True] * len(right)
    assert not any(takes(part, text) for text in wrong)


@settings(deadline=None)
@given(
    FRACTIONS,
    TENTHS,
    TENTHS,
    st.sampled_from(["minimum", "exclusiveMinimum"]),
    st.sampled_from(["maximum", "exclusiveMaximum"]),
)
def test_no_schema_is_refused_that_a_number_fits(
    step: float, low: float, high: float, least: str, most: str
) -> None:
    part = {"type": "number", "multipleOf": step, least: low, most: high}
    exact = Decimal(str(step))
    first, last = (int(Decimal(str(each)) // exact) for each in (low, high))
    fitting = [
        number
        for number in (exact * each for each in range(first - 2, last + 3))
        if float(number) >= low and float(number) <= high
        if float(number) > low or least == "minimum"
        if float(number) < high or most == "maximum"
    ]
    listed = listed_steps(part, whole=False)

    assert not listed or [Decimal(str(each)) for each in listed] == fitting
    if fitting:
        assert not takes(part, "7777.77")
        assert all(takes(part, json.dumps(each)) for each in listed)
    else:
        with pytest.raises(InvalidRequest):
            takes(part, "0")


@pytest.mark.parametrize(
    "part",
    [
        {"multipleOf": 2, "minimum": 1, "maximum": 2},
        {"multipleOf": 0.1, "minimum": 0},
        {"multipleOf": 0.1, "minimum": 0, "maximum": 1},
        {"multipleOf": 5e-324, "exclusiveMinimum": 0, "maximum": 0.5},
        {"multipleOf": 0.1, "minimum": float("-inf"), "maximum": float("inf")},
        {"minimum": 1, "maximum": 1},
    ],
)
def test_what_the_compiler_gets_right_is_left_to_it(part: dict[str, Any]) -> None:
    assert listed_steps(part, whole=False) == ()
