"""The fewest tokens that a text can have."""

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


@given(st.text(max_size=300))
def test_the_tokenizer_of_bytes_is_never_below_it(text: str):
    tokenizer = ByteTokenizer()
    found = tokenizer.encode(text, add_special=False, parse_special=True)
    assert tokenizer.least_tokens(text) <= len(found)
