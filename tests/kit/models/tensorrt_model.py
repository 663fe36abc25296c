"""A model's folder as TensorRT-LLM wants it, for its double: a configuration and a tokenizer of
single bytes, no weights. What the double says is in `double.json`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

CHAT_TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
BOS_TOKEN = "<|begin|>"
NUM_BYTES = 256
EOS_TOKEN_ID = 256
OTHER_EOS_TOKEN_ID = 257
VOCAB_SIZE = 258
"""Ids 0 to 255 are bytes; the two end tokens follow."""


def write_tensorrt_model(
    folder: Path,
    *,
    max_model_len: int = 2048,
    begins_texts: bool = False,
    more_tokens: Sequence[str] = (),
    more_control_tokens: Sequence[str] = (),
    chat_template: str = CHAT_TEMPLATE,
    **plan: Any,
) -> Path:
    """Write the folder. `plan` is how the double behaves; see the README beside it. With
    `begins_texts` there is one token more, which every text begins with. `more_tokens` are texts of
    tokens that follow, and `more_control_tokens` those of control tokens behind them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCAB_SIZE + begins_texts + len(more_tokens) + len(more_control_tokens),
        "max_position_embeddings": max_model_len,
        "eos_token_id": EOS_TOKEN_ID,
    }
    _write(folder / "config.json", config)
    ends = [EOS_TOKEN_ID, OTHER_EOS_TOKEN_ID]
    _write(folder / "generation_config.json", {"eos_token_id": ends})
    _write(folder / "double.json", plan)
    tokenizer = _tokenizer()
    if begins_texts:
        _begin_texts(tokenizer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in more_tokens])
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in more_control_tokens]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|end|>",
            "chat_template": chat_template,
            **({"bos_token": BOS_TOKEN} if begins_texts else {}),
        },
    )
    return folder


def _tokenizer() -> Tokenizer:
    """Byte-level BPE without a single merge."""
    vocabulary = {character: byte for byte, character in _byte_characters().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in ("<|end|>", "<|other_end|>")]
    )
    return tokenizer


def _begin_texts(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken(BOS_TOKEN, special=True, normalized=False)])
    token_id = tokenizer.token_to_id(BOS_TOKEN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS_TOKEN} $A", special_tokens=[(BOS_TOKEN, token_id)]
    )


def _byte_characters() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level vocabularies (GPT-2's)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(NUM_BYTES) if byte not in characters)
    return characters | {byte: chr(256 + number) for number, byte in enumerate(others)}


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
