"""SentencePiece's BPE: Llama 2, Mistral, Phi-3 and Gemma.

A GGUF file keeps the score of each token and no merges. Every way to cut a token into two others is
a merge, and they rank by the score of the token that they make: so transformers converts
SentencePiece files too.
"""

from array import array
from typing import Any

from convert.tokenizer.vocabulary import Vocabulary
from runtime.errors import ModelFileError
from runtime.models.gguf import GGUFFile

_BLANK = "▁"


def sentencepiece_bpe(file: GGUFFile, vocabulary: Vocabulary) -> dict[str, Any]:
    """The parts of tokenizer.json that differ between kinds of vocabulary."""
    unknown = vocabulary.special_id("unknown")
    prefixed = file.flag("tokenizer.ggml.add_space_prefix", True)
    return {
        "normalizer": _normalizer(prefixed),
        "decoder": _decoder(prefixed),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": vocabulary.texts[unknown] if unknown is not None else None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary.ids(),
            "merges": _merges(_scores(file, len(vocabulary.texts)), vocabulary),
        },
    }


def _normalizer(prefixed: bool) -> dict[str, Any]:
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK}
    if not prefixed:
        return blanks
    prefix = {"type": "Prepend", "prepend": _BLANK}
    return {"type": "Sequence", "normalizers": [prefix, blanks]}


def _decoder(prefixed: bool) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _BLANK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefixed:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _scores(file: GGUFFile, count: int) -> "array[float]":
    scores = file.metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, array) or scores.typecode not in "fd" or len(scores) != count:
        raise ModelFileError(f"{file.path}: `tokenizer.ggml.scores` is not one number per token.")
    return array("d", scores)


def _merges(scores: "array[float]", vocabulary: Vocabulary) -> list[list[str]]:
    """All merges, the best score first; of one token's, those of its earliest parts."""
    skipped = vocabulary.control | vocabulary.user_defined | vocabulary.unused
    ids = {text: i for text, i in vocabulary.ids().items() if i not in skipped}
    ranked = []
    for text, token_id in ids.items():
        for cut in range(1, len(text)):
            left, right = ids.get(text[:cut]), ids.get(text[cut:])
            if left is not None and right is not None:
                ranked.append((-scores[token_id], token_id, left, right))
    ranked.sort()
    texts = vocabulary.texts
    return [[texts[left], texts[right]] for _, _, left, right in ranked]
