"""tokenizer.json and tokenizer_config.json from the vocabulary of a GGUF file."""

from typing import Any

from convert.tokenizer.byte_level import byte_level_bpe
from convert.tokenizer.sentencepiece import sentencepiece_bpe
from convert.tokenizer.vocabulary import Vocabulary, read_vocabulary
from runtime.errors import ModelFileError
from runtime.models.gguf import GGUFFile

_KINDS = {"gpt2": byte_level_bpe, "llama": sentencepiece_bpe}
# Phi-3's special tokens swallow the blanks behind them, but for these (llama.cpp does the same,
# src/llama-vocab.cpp). Phi-4, of the same architecture, has another kind of vocabulary.
_STRIPS_BLANKS = ("phi3", "llama")
_KEEPS_BLANKS = ("<unk>", "<s>", "<|endoftext|>")
# Texts of tokens that end an answer, beside the one that the file names.
_END_TEXTS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
)
_END_KEYS = ("eos", "eot", "eom")


def build_tokenizer(file: GGUFFile) -> tuple[dict[str, Any], dict[str, Any]]:
    """tokenizer.json and tokenizer_config.json.

    Raises ModelFileError for a kind of vocabulary or a pre-tokenizer without a counterpart.
    """
    kind = file.text("tokenizer.ggml.model")
    if kind not in _KINDS:
        raise ModelFileError(
            f"{file.path}: `tokenizer.ggml.model` is {kind!r}; known are {', '.join(_KINDS)}. "
            "Give the original tokenizer's folder with --tokenizer."
        )
    vocabulary = read_vocabulary(file)
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(file, vocabulary),
        "normalizer": None,
        "pre_tokenizer": None,
        **_KINDS[kind](file, vocabulary),
    }
    tokenizer["post_processor"] = _template(vocabulary) or tokenizer.get("post_processor")
    return tokenizer, _tokenizer_config(file, vocabulary)


def end_token_ids(file: GGUFFile) -> list[int]:
    """All tokens that end an answer, the file's own first."""
    vocabulary = read_vocabulary(file)
    named = [vocabulary.special_id(key) for key in _END_KEYS]
    control = {vocabulary.texts[token_id]: token_id for token_id in vocabulary.control}
    by_text = [control.get(text) for text in _END_TEXTS]
    return list(dict.fromkeys(token_id for token_id in named + by_text if token_id is not None))


def _added_tokens(file: GGUFFile, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    kinds = file.text("general.architecture"), file.text("tokenizer.ggml.model")
    strips = kinds == _STRIPS_BLANKS
    return [
        {
            "id": token_id,
            "content": vocabulary.texts[token_id],
            "single_word": False,
            "lstrip": False,
            "rstrip": strips and vocabulary.texts[token_id] not in _KEEPS_BLANKS,
            "normalized": False,
            "special": token_id in vocabulary.control,
        }
        for token_id in sorted(vocabulary.control | vocabulary.user_defined)
    ]


def _template(vocabulary: Vocabulary) -> dict[str, Any] | None:
    """The tokens added around a text: bos before it, eos after it, or none."""
    used = [i for i in (vocabulary.prefix, vocabulary.suffix) if i is not None]
    if not used:
        return None
    texts = {token_id: vocabulary.texts[token_id] for token_id in used}
    return {
        "type": "TemplateProcessing",
        "single": _around(vocabulary, "A", 0),
        "pair": _around(vocabulary, "A", 0) + _around(vocabulary, "B", 1),
        "special_tokens": {
            text: {"id": text, "ids": [token_id], "tokens": [text]}
            for token_id, text in texts.items()
        },
    }


def _around(vocabulary: Vocabulary, sequence: str, kind: int) -> list[dict[str, Any]]:
    before, after = (
        [{"SpecialToken": {"id": vocabulary.texts[token_id], "type_id": kind}}]
        if token_id is not None
        else []
        for token_id in (vocabulary.prefix, vocabulary.suffix)
    )
    return [*before, {"Sequence": {"id": sequence, "type_id": kind}}, *after]


def _tokenizer_config(file: GGUFFile, vocabulary: Vocabulary) -> dict[str, Any]:
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {role: vocabulary.special_id(key) for role, key in roles.items()}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": vocabulary.prefix is not None,
        "add_eos_token": vocabulary.suffix is not None,
        **{f"{role}_token": vocabulary.texts[i] for role, i in ids.items() if i is not None},
    }
    if file.max_model_len:
        config["model_max_length"] = file.max_model_len
    if template := file.text("tokenizer.chat_template"):
        config["chat_template"] = template
    return config
