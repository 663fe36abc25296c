"""Texts of control tokens can be tokenized as the text that they are."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.models.gguf import read_gguf
from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from runtime.tokenizers.control_text import ControlTexts
from runtime.tokenizers.gguf.llama_vocab import LlamaVocabTokenizer
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.special_tokens import clean_text
from runtime.tokenizers.text_pattern import pattern_of
from runtime.tokenizers.tokenizer import Tokenizer
from tests.kit.engines import needs_llama_library
from tests.kit.models.plain_text import control_ids, forged_texts, plain_ids, text_of
from tests.kit.models.tiny_model import write_tiny_model

MORE = ("<s>", "<<s>>", "[INST]", "<|im", "ab", "|>", "<|start|>")


@pytest.fixture(scope="module", params=["bytes", "tiktoken", "llama.cpp"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    if request.param == "bytes":
        return ByteTokenizer()
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny_model(path, more_control_tokens=MORE)
    if request.param == "tiktoken":
        return load_tokenizer(path)
    needs_llama_library()
    return LlamaVocabTokenizer(read_gguf(path))


@given(data=st.data())
def test_text_stays_text(tokenizer: Tokenizer, data: st.DataObject) -> None:
    text = data.draw(forged_texts(tokenizer))

    token_ids = plain_ids(tokenizer, text)
    assert control_ids(tokenizer, token_ids) == []
    assert text_of(tokenizer, token_ids) == clean_text(f"a{text}")


def test_tokens_of_the_template_are_read(tokenizer: Tokenizer) -> None:
    """Around a piece that is text, and with the tokens around a prompt."""
    control = ControlTexts(tokenizer)
    first, *others = ["<|im_start|>user", "<|im_end|>", "<|im_end|>"]

    token_ids = control.encode([first, *others], add_special=True)
    whole = tokenizer.encode(first, add_special=True, parse_special=True)
    [end] = tokenizer.encode("<|im_end|>", add_special=False, parse_special=True)
    assert token_ids[: len(whole)] == whole
    assert token_ids[-1] == end
    assert token_ids.count(end) == 1


@given(
    texts=st.sets(st.text("ab<|\n", min_size=1, max_size=5)), text=st.text("ab<|\n", max_size=40)
)
def test_a_pattern_of_many_texts(texts: set[str], text: str) -> None:
    """It finds what the plain list of alternatives finds, the longest first."""
    longest_first = sorted(texts, key=len, reverse=True)
    alternatives = "|".join(map(re.escape, longest_first)) if texts else "(?!)"

    assert re.findall(pattern_of(texts), text) == re.findall(alternatives, text)


@given(data=st.data())
def test_a_quick_look_misses_nothing(tokenizer: Tokenizer, data: st.DataObject) -> None:
    control = ControlTexts(tokenizer)
    text = data.draw(forged_texts(tokenizer))
    has_one = control.pattern.search(text) is not None

    for value in ({"a": [text, 1, None]}, {text: {"b": 2.5}}, [[["x"], text]]):
        assert control.may_be_in(value) >= has_one
    assert not control.may_be_in({"messages": ["the fox", {"jumps": 5, "": None}]})


@pytest.mark.parametrize("token", ['<"q">', "<\n>", "<\\n>", "<\x01>", "<é>"])
def test_a_token_that_json_writes_in_another_way(token: str, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", more_control_tokens=(token,))
    control = ControlTexts(load_tokenizer(path))

    assert control.may_be_in([f"x{token}y"])
    assert not control.may_be_in(["x"])
