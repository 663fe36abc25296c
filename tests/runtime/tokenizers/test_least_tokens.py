"""The fewest tokens that a text can have."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.tokenizers import least_tokens
from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from runtime.tokenizers.least_tokens import LeastTokens

VOCABULARY = (b"a", b"b", b"aa", b"aaaa", b"ab", b" ", b" " * 16, "é".encode(), b"<|end|>")


@given(st.lists(st.sampled_from(VOCABULARY), max_size=50), st.integers(1, 20))
def test_no_text_has_fewer(tokens: list[bytes], size: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(least_tokens, "_SLICE", size)
        assert LeastTokens(VOCABULARY).count(b"".join(tokens).decode()) <= len(tokens)


def test_a_byte_counts_by_the_longest_token_that_has_it():
    least = LeastTokens(VOCABULARY)
    assert least.count("a" * 4000) == 1000
    assert least.count(" " * 4000) == 250
    assert least.count("b" * 4000) == 2000
    assert least.count("?" * 4000) == 0


def test_composed_characters_may_have_a_third_of_the_bytes():
    least = LeastTokens((b"e", "é".encode()), composes=True)
    decomposed = "e\u0301" * 600
    assert 0 < least.count(decomposed) <= 600
    assert least.count("e" * 600) == 600


COMPOSING = (b"e", b"u", b"eu", b" ", "é".encode(), "ü".encode(), "👍".encode(), b"\xcc", b"\x81")


@given(st.text(alphabet="eu \u0301\u0308👍é", max_size=200), st.integers(1, 20))
def test_what_may_be_joined_does_not_count(text: str, size: int):
    """Every token is the longest that fits, of the composed text."""
    rest, count = unicodedata.normalize("NFC", text).encode(), 0
    while rest:
        longest = max((len(token) for token in COMPOSING if rest.startswith(token)), default=1)
        rest, count = rest[longest:], count + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(least_tokens, "_SLICE", size)
        assert LeastTokens(COMPOSING, composes=True).count(text) <= count


def test_one_emoji_hides_no_ascii():
    least = LeastTokens(COMPOSING, composes=True)
    assert least.count("eu" * 1000 + "👍") >= 999


@given(st.text(max_size=300))
def test_the_tokenizer_of_bytes_is_never_below_it(text: str):
    tokenizer = ByteTokenizer()
    found = tokenizer.encode(text, add_special=False, parse_special=True)
    assert tokenizer.least_tokens(text) <= len(found)
