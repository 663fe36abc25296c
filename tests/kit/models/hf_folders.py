"""Checkpoint folders without weights: tokenizers trained in a moment, in the forms of real ones."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tests.kit.models.tiny_model import CHAT_TEMPLATE

CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN2 = (
    CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    rf"{CONTRACTION}?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    rf"{CONTRACTION}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SHOWN = ("<tool_call>", "</tool_call>")
SP_SPECIAL = ("<unk>", "<s>", "</s>")
NUM_PADDED = 64
"""How many more outputs than tokens the model of a folder has."""


def write_folder(folder: Path, tokenizer: Tokenizer, **files: dict[str, Any]) -> Path:
    """Write a folder around a tokenizer. `files` change what the others say, by name without
    `.json`: config, generation_config, tokenizer_config."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    find = tokenizer.token_to_id
    bos, eos = ("<s>", "</s>") if find("<s>") is not None else ("<|endoftext|>", "<|im_end|>")
    config = {
        "architectures": ["TinyForCausalLM"],
        "model_type": "tiny",
        "vocab_size": tokenizer.get_vocab_size() + NUM_PADDED,
        "max_position_embeddings": 2048,
        "eos_token_id": find(eos),
    }
    generation_config = {"eos_token_id": [find(eos), find(bos)], "bos_token_id": find(bos)}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1000000000000000019884624838656,
    }
    written = {
        "config": config,
        "generation_config": generation_config,
        "tokenizer_config": tokenizer_config,
    }
    for name, content in written.items():
        write_json(folder / f"{name}.json", {**content, **files.get(name, {})})
    return folder


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def byte_level(
    texts: list[str],
    pattern: str | None,
    *,
    ignore_merges: bool = False,
    nfc: bool = False,
    prefix: str = "",
    vocab_size: int = 1000,
) -> Tokenizer:
    """Byte-level BPE as GPT-2 (no pattern), Qwen and Llama 3 have it."""
    tokenizer = Tokenizer.from_str(_trained(tuple(texts), ignore_merges, vocab_size))
    tokenizer.pre_tokenizer = byte_level_words(pattern)
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    add_tokens(tokenizer, SPECIAL, SHOWN)
    if prefix:
        tokenizer.post_processor = template(tokenizer, prefix)
    return tokenizer


@cache
def _trained(texts: Sequence[str], ignore_merges: bool, vocab_size: int) -> str:
    """Its JSON: training takes longer than most tests of what was trained."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    # Trained without a pattern, so that tokens cross the borders of all patterns' words.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=12,
    )
    tokenizer.train_from_iterator(_plain(texts), trainer)
    return tokenizer.to_str()


def _plain(texts: Sequence[str]) -> list[str]:
    """Texts that do not teach merging to make special tokens."""
    return [text for text in texts if "<|" not in text and "s>" not in text]


def byte_level_words(pattern: str | None) -> pre_tokenizers.PreTokenizer:
    """How real files spell a pattern; None is GPT-2's."""
    if pattern is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def sentencepiece_bpe(texts: list[str], *, metaspace: bool = False) -> Tokenizer:
    """BPE with byte fallback: Llama 2 and Mistral, or Gemma, whose words begin without a blank."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never")
    tokenizer.train_from_iterator(_plain(texts), _fallback_trainer())
    tokenizer = _without_added_bytes(tokenizer)
    if metaspace:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    else:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    add_tokens(tokenizer, (), ("▁▁▁", "<tool_call>"))
    tokenizer.post_processor = template(tokenizer, "<s>")
    return tokenizer


def _fallback_trainer() -> trainers.BpeTrainer:
    special = [*SP_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    return trainers.BpeTrainer(
        vocab_size=900, show_progress=False, special_tokens=special, limit_alphabet=200
    )


def _without_added_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """Training takes byte tokens for special ones; in real files they are ordinary."""
    document = json.loads(tokenizer.to_str())
    added = [token for token in document["added_tokens"] if token["content"] in SP_SPECIAL]
    return Tokenizer.from_str(json.dumps(document | {"added_tokens": added}))


def unigram(texts: list[str]) -> Tokenizer:
    """SentencePiece's other model, as T5 has it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=1200, show_progress=False, special_tokens=list(SP_SPECIAL), unk_token="<unk>"
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wordpiece(texts: list[str]) -> Tokenizer:
    """What BERT has: the blanks of its text depend on neighbours."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=600, show_progress=False, special_tokens=list(SP_SPECIAL)
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def add_tokens(tokenizer: Tokenizer, special: tuple[str, ...], shown: tuple[str, ...]) -> None:
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in shown])


def template(tokenizer: Tokenizer, prefix: str) -> processors.TemplateProcessing:
    token_id = tokenizer.token_to_id(prefix)
    return processors.TemplateProcessing(
        single=f"{prefix} $A", pair=f"{prefix} $A $B", special_tokens=[(prefix, token_id)]
    )


Builder = Callable[[list[str]], Tokenizer]
