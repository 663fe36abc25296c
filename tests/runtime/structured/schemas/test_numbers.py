"""Numbers that the compiler would round and bounds that it would not heed are left out by name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from llguidance import LLMatcher

from runtime.structured.schemas.reader import read_schema
from runtime.structured.vocabulary import grammar_tokenizer
from runtime.tokenizers.byte_tokenizer import ByteTokenizer

TOKENIZER = grammar_tokenizer(ByteTokenizer())
EXACT = 2**53


def accepts(schema: Any, text: str) -> bool:
    matcher = LLMatcher(TOKENIZER, LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.get_error(), matcher.get_error()
    token_ids = list(text.encode())
    return matcher.try_consume_tokens(token_ids) == len(token_ids) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("schema", "left_out"),
    [
        ({"enum": [1234567890123456789]}, ["enum"]),
        ({"enum": [1, {"ids": [2**70]}, "a"]}, ["enum"]),
        ({"const": -(2**60) - 1}, ["const"]),
        ({"type": "integer", "minimum": EXACT + 1, "maximum": EXACT + 1}, ["minimum", "maximum"]),
        ({"type": "integer", "minimum": 0, "maximum": 2**64 - 1}, ["maximum"]),
        ({"enum": [EXACT, 0.5, True, None, "9007199254740993"]}, []),
        ({"type": "integer", "minimum": -EXACT, "maximum": EXACT}, []),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, ["exclusiveMinimum"]),
        ({"type": "number", "minimum": 4.5, "exclusiveMaximum": 5}, ["exclusiveMaximum"]),
        ({"minimum": 0, "exclusiveMinimum": True, "maximum": 0.1}, ["exclusiveMinimum"]),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, []),
        ({"type": "number", "exclusiveMinimum": 0}, []),
        ({"type": "integer", "exclusiveMinimum": 0, "maximum": 5}, []),
    ],
)
def test_what_is_left_out(schema: dict[str, Any], left_out: list[str]) -> None:
    read = read_schema(schema, lambda _: "")

    assert sorted(read.left_out) == sorted(left_out)


near = st.integers(-20, 20).map(lambda number: number / 4)
least = st.sampled_from(["minimum", "exclusiveMinimum"])
most = st.sampled_from(["maximum", "exclusiveMaximum"])


@given(least, near, most, near)
def test_no_bound_is_passed(low: str, start: float, high: str, end: float) -> None:
    """Each bound itself, in each spelling, is taken only where the schema takes it."""
    schema = {"type": "number", low: _whole(min(start, end)), high: _whole(max(start, end) + 0.25)}
    read = read_schema(schema, lambda _: "")
    held = {key: value for key, value in schema.items() if key not in read.left_out}
    for key in (low, high):
        for text in (json.dumps(schema[key]), f"-{schema[key]}" if not schema[key] else "7"):
            if accepts(read.schema, text):
                assert Draft202012Validator(held).is_valid(json.loads(text)), (schema, text)


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number
