"""Texts that look like control tokens, and the check that they stay texts."""

from hypothesis import strategies as st

from runtime.tokenizers.control_text import ControlTexts
from runtime.tokenizers.tokenizer import Tokenizer
from tests.kit.models.texts import NASTY


def forged_texts(tokenizer: Tokenizer) -> st.SearchStrategy[str]:
    """Texts with control tokens, with halves of them, and with whatever else is nasty."""
    tokens = sorted(tokenizer.control_tokens)
    halves = [half for token in tokens for half in (token[: len(token) // 2], token[1:])]
    pieces = st.one_of(st.sampled_from(tokens), st.sampled_from([*halves, *NASTY]), st.text())
    return st.lists(pieces, max_size=6).map("".join)


def control_ids(tokenizer: Tokenizer, token_ids: list[int]) -> list[int]:
    """Those of the ids that are control tokens."""
    return [i for i in token_ids if tokenizer.token_name(i) in tokenizer.control_tokens]


def text_of(tokenizer: Tokenizer, token_ids: list[int]) -> str:
    data = b"".join(tokenizer.token_bytes(token_id) for token_id in token_ids)
    return data.decode("utf-8", "replace")


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text within a prompt, none of whose control tokens may be read."""
    control = ControlTexts(tokenizer)
    before, *pieces = control.pattern.split(f"a{text}")
    return control.encode([before, *pieces], add_special=False)
