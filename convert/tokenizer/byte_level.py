"""Byte-level BPE: GPT-2's way, which Llama 3, Qwen, Phi-4 and Mistral's Tekken use.

GGUF names the rule that cuts text into words; the patterns here are those of the models' own
tokenizer.json. Qwen's tokenizers bring text into Unicode's form NFC first, which llama.cpp does
not.
"""

from typing import Any

from msgspec import Struct

from convert.tokenizer.vocabulary import Vocabulary
from runtime.errors import ModelFileError
from runtime.models.gguf import GGUFFile

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


class _Rule(Struct, frozen=True):
    """`pattern` finds words. `whole_words`: a word that is a token is never merged. With `digits`,
    each digit is cut out before. An empty pattern is GPT-2's.
    """

    pattern: str = ""
    whole_words: bool = False
    digits: bool = False
    nfc: bool = False


def _llama3_like(numbers: str) -> str:
    return (
        rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_BLANKS}"
    )


def _gpt4o_like(numbers: str, contraction: str) -> str:
    prefix = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{prefix}{_UPPER}*{_LOWER}+{contraction}|{prefix}{_UPPER}+{_LOWER}*{contraction}"
        rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
    )


_LLAMA3 = _Rule(_llama3_like(r"\p{N}{1,3}"), whole_words=True)
_RULES = {
    "gpt-2": _Rule(),
    "smollm": _Rule(digits=True),
    "qwen2": _Rule(_llama3_like(r"\p{N}"), nfc=True),
    "deepseek-r1-qwen": _Rule(_llama3_like(r"\p{N}")),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "dbrx": _Rule(_LLAMA3.pattern),
    "tekken": _Rule(_gpt4o_like(r"\p{N}", ""), whole_words=True),
    "gpt-4o": _Rule(_gpt4o_like(r"\p{N}{1,3}", f"{_CONTRACTION}?")),
}


def byte_level_bpe(file: GGUFFile, vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of tokenizer.json that differ between kinds of vocabulary."""
    name = file.text("tokenizer.ggml.pre")
    rule = _RULES.get(name)
    if rule is None:
        raise ModelFileError(
            f"{file.path}: `tokenizer.ggml.pre` is {name!r}; known are {', '.join(_RULES)}. "
            "Give the original tokenizer's folder with --tokenizer."
        )
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "normalizer": {"type": "NFC"} if rule.nfc else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _cuts(rule)},
        "post_processor": {**byte_level, "use_regex": False},
        "decoder": {**byte_level, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": rule.whole_words,
            "vocab": vocabulary.ids(),
            "merges": _merges(file, vocabulary),
        },
    }


def _cuts(rule: _Rule) -> list[dict[str, Any]]:
    bytes_of_words = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": not rule.pattern,
    }
    if rule.digits:
        return [{"type": "Digits", "individual_digits": True}, bytes_of_words]
    if not rule.pattern:
        return [bytes_of_words]
    split = {"type": "Split", "pattern": {"Regex": rule.pattern}, "behavior": "Isolated"}
    return [{**split, "invert": False}, bytes_of_words]


def _merges(file: GGUFFile, vocabulary: Vocabulary) -> list[list[str]]:
    """The list of merges. One merge that names no token makes the tokenizers library refuse all."""
    known = vocabulary.ids()
    merges = []
    for index, merge in enumerate(file.strings("tokenizer.ggml.merges")):
        left, _, right = merge.partition(" ")
        if left not in known or right not in known or left + right not in known:
            raise ModelFileError(
                f"{file.path}: `tokenizer.ggml.merges[{index}]` joins what are no tokens."
            )
        merges.append([left, right])
    return merges
