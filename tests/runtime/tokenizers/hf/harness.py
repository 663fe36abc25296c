"""What the tests of checkpoint folders share: texts, tokenizers, and changes to files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from runtime.tokenizers.hf.tokenizer import HFTokenizer
from runtime.tokenizers.load import load_tokenizer
from tests.kit.models import hf_folders as build
from tests.kit.models.hf_folders import write_json
from tests.kit.models.texts import nasty_texts

TEXTS = [*nasty_texts(600, seed=1), *["the quick brown fox jumps over the lazy dog "] * 20]
ASCII = [text for text in TEXTS if text.isascii()]
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: build.byte_level(TEXTS, None),
    "qwen2": lambda: build.byte_level(TEXTS, build.QWEN2, nfc=True),
    "llama3": lambda: build.byte_level(
        TEXTS, build.LLAMA3, ignore_merges=True, prefix="<|endoftext|>"
    ),
    "o200k": lambda: build.byte_level(TEXTS, build.O200K),
    "llama2": lambda: build.sentencepiece_bpe(TEXTS),
    "gemma": lambda: build.sentencepiece_bpe(TEXTS, metaspace=True),
    "unigram": lambda: build.unigram(ASCII),
}
BYTE_LEVEL = ("gpt2", "qwen2", "llama3", "o200k")


class Pair:
    """A folder, read by us and by transformers."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.folder = folder
        self.ours = load_tokenizer(folder)
        self.theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        assert isinstance(self.ours, HFTokenizer)

    def assert_same(self, text: str) -> None:
        for special in (True, False):
            ours = self.ours.encode(text, add_special=special, parse_special=True)
            assert ours == self.theirs.encode(text, add_special_tokens=special), ascii(text)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Read a JSON file, change it in place, write it."""
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    write_json(path, document)


def set_key(path: Path, key: str, value: object) -> None:
    edit(path, lambda document: document.update({key: value}))
