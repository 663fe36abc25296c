"""The rebuilt tokenizer gives the tokens of the GGUF's own."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from convert.tokenizer import build_tokenizer, end_token_ids
from runtime.errors import ModelFileError
from runtime.models.gguf import read_gguf
from runtime.tokenizers.gguf.llama_vocab import LlamaVocabTokenizer
from runtime.tokenizers.load import load_tokenizer
from tests.kit.engines import needs_llama_library
from tests.kit.models.texts import nasty_texts
from tests.kit.models.tiny_checkpoints import (
    byte_level_vocabulary,
    random_weights,
    sentencepiece_vocabulary,
    write_gguf,
)
from tests.kit.models.tiny_model import CHAT_TEMPLATE

PLAIN_TEXTS = (
    "The quick brown fox jumps over the lazy dog, and then there is   nothing.",
    "def f(x):\n    return x**2  # naïve\n\n\n\tprint(f(12), '日本語')\r\n",
    "I'm sure we'll see: 3.14159, 1,000,000 and 50%!!! <|im_start|>user\nhello<|im_end|>\n",
    "café Ünïcödé привет мир 👩‍👩‍👧 Ａ１ ½ e\u0301",
    "hello world<|user|> hello    there\n\nthen</s> 12",
)
# Characters that came after Unicode 15: llama.cpp's tables and the library's differ there.
NEW = frozenset("\U0001ccf0\U00010d40\u1c89\U0001e5f1\u0897\u0378")


def texts() -> list[str]:
    return [*PLAIN_TEXTS, *(text for text in nasty_texts(300) if not NEW & set(text))]


def rebuilt(path: Path) -> tuple[Tokenizer, dict[str, Any]]:
    tokenizer, config = build_tokenizer(read_gguf(path))
    return Tokenizer.from_str(json.dumps(tokenizer)), config


def with_pre(folder: Path, pre: str) -> dict[str, Any]:
    return byte_level_vocabulary(folder) | {"tokenizer.ggml.pre": pre}


def model(folder: Path, vocabulary: dict[str, Any], architecture: str = "llama") -> Path:
    weights = random_weights(architecture, len(vocabulary["tokenizer.ggml.tokens"]))
    return write_gguf(folder / "m.gguf", architecture, weights, vocabulary=vocabulary)


@pytest.mark.parametrize("pre", ["qwen2", "gpt-2", "llama-bpe", "dbrx", "smollm"])
def test_byte_level_tokens(pre: str, tmp_path: Path) -> None:
    path = model(tmp_path, with_pre(tmp_path, pre))
    ours, reference = rebuilt(path)[0], load_tokenizer(path)

    for text in texts():
        same_form = unicodedata.normalize("NFC", text) if pre == "qwen2" else text
        expected = reference.encode(same_form, add_special=True, parse_special=True)
        if "</s>" not in text:  # llama.cpp takes it for a special token wherever it sees it
            assert ours.encode(text).ids == expected, ascii(text)


@pytest.mark.parametrize("add_space_prefix", [True, False])
def test_sentencepiece_tokens(add_space_prefix: bool, tmp_path: Path) -> None:
    needs_llama_library()
    path = model(tmp_path, sentencepiece_vocabulary(add_space_prefix=add_space_prefix))
    ours, reference = rebuilt(path)[0], LlamaVocabTokenizer(read_gguf(path))

    for text in texts():
        expected = reference.encode(text, add_special=True, parse_special=True)
        assert ours.encode(text).ids == expected, ascii(text)


@pytest.mark.parametrize("kind", ["byte level", "sentencepiece"])
def test_text_comes_back(kind: str, tmp_path: Path) -> None:
    vocabulary = with_pre(tmp_path, "qwen2") if kind == "byte level" else sentencepiece_vocabulary()
    ours = rebuilt(model(tmp_path, vocabulary))[0]

    for text in ("hello world", "naïve 日本語 12\n there", "  two  blanks"):
        assert ours.decode(ours.encode(text).ids) == text


def test_transformers_loads_it_with_its_template(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    vocabulary = with_pre(tmp_path, "llama-bpe") | {"tokenizer.ggml.add_bos_token": True}
    tokenizer, config = build_tokenizer(read_gguf(model(tmp_path, vocabulary)))
    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "hello"}]

    assert loaded.chat_template == CHAT_TEMPLATE
    assert loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    bos, im_end = loaded.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert (loaded.bos_token_id, loaded.eos_token_id) == (bos, im_end)
    ids = loaded("hello<|im_end|>")["input_ids"]
    assert (ids[0], ids[-1]) == (bos, im_end)
    assert loaded.decode(ids, skip_special_tokens=True) == "hello"


def test_ends_of_an_answer(tmp_path: Path) -> None:
    path = model(tmp_path, with_pre(tmp_path, "qwen2"))
    tokens = read_gguf(path).strings("tokenizer.ggml.tokens")

    assert [tokens[token_id] for token_id in end_token_ids(read_gguf(path))] == [
        "<|im_end|>",
        "<|endoftext|>",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.pre": "unheard-of"}, r"`tokenizer\.ggml\.pre` is 'unheard-of'; known"),
        ({"tokenizer.ggml.model": "bert"}, r"`tokenizer\.ggml\.model` is 'bert'; known are gpt2"),
        ({"tokenizer.ggml.merges": ["a nothing"]}, r"merges\[0\]` joins what are no tokens"),
        ({"tokenizer.ggml.eos_token_id": 9999}, r"eos_token_id` is 9999; there are \d+ tokens"),
        ({"tokenizer.ggml.token_type": [1, 2]}, r"token_type` has 2 entries for \d+ tokens"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "a token is there twice"),
        ({"tokenizer.ggml.tokens": ["a" * 5000]}, r"tokens\[0\]` is 5000 characters long"),
    ],
)
def test_what_cannot_be_right(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = model(tmp_path, with_pre(tmp_path, "qwen2") | change)

    with pytest.raises(ModelFileError, match=message):
        build_tokenizer(read_gguf(path))


def test_scores_for_every_token(tmp_path: Path) -> None:
    path = model(tmp_path, sentencepiece_vocabulary() | {"tokenizer.ggml.scores": [1.0]})

    with pytest.raises(ModelFileError, match=r"`tokenizer\.ggml\.scores` is not one number"):
        build_tokenizer(read_gguf(path))
