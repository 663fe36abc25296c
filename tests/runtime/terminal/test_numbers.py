"""Numbers in options."""

import argparse
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.terminal.numbers import MAX_WHOLE, number, whole_number


@given(st.integers(-(10**12), 10**12))
def test_whole_numbers_are_taken_within_their_bounds(value: int) -> None:
    if 1 <= value <= MAX_WHOLE:
        assert whole_number(1)(str(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{value}' is not a whole number"):
            whole_number(1)(str(value))


@given(st.floats())
def test_numbers_are_taken_within_their_bounds(value: float) -> None:
    if not math.isnan(value) and 0 <= value <= 2:
        assert number(0, 2)(repr(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="is not a number from 0 to 2"):
            number(0, 2)(repr(value))


@given(st.text())
def test_any_text_is_taken_or_wrong_usage(text: str) -> None:
    for read in (whole_number(0), number(0, 1)):
        try:
            assert read(text) >= 0
        except argparse.ArgumentTypeError as error:
            assert len(str(error)) < 300  # noqa: PT017
