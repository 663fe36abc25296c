"""A tiny random model in a GGUF file: loads in llama.cpp in milliseconds, speaks nonsense."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np

from runtime.tokenizers.bpe_ranks import spelling_of

NUM_GEMMA_LAYERS = 26
WIDTH, NUM_LAYERS, NUM_HEADS, NUM_KV_HEADS, FEED_FORWARD = 64, 2, 4, 2, 128
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED_TOKENS = ("<tool_call>", "</tool_call>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = (
    "the quick brown fox jumps over the lazy dog and then the other dogs jump over the fox too . "
    "there is nothing here that anyone would want to read ; the words only give the vocabulary "
    "some tokens that are longer than one byte , as those of a real model are . "
    "naïve café über straße 日本語 日本 中文 привет мир 👩‍👩‍👧 👍 \u00a0\u3000 "
    "don't we'll it's 123 456 :: -> ==="
)
# Runs that only some pre-tokenizers leave whole.
_RUNS = ("  ", "    ", "\n\n", " \n", "\r\n", "\t\t", "12", "!!", "'s") * 3
# A token that no merge leads to: it is found only by rules that look at whole words first.
_UNMERGED = b" quartz"


def write_tiny_model(
    path: Path,
    *,
    seed: int = 0,
    n_vocab_extra: int = 300,
    context: int = 2048,
    pre: str = "qwen2",
    window: int = 0,
    more_control_tokens: Sequence[str] = (),
    token_keys: Mapping[str, str] | None = None,
) -> Path:
    """Write a model of random F32 weights, about 0.7 MB, and return its path.

    The vocabulary is byte-level BPE: 256 bytes, at most `n_vocab_extra` merged tokens, one that
    is not merged, five special ones and those of `more_control_tokens`; `token_keys` gives texts of
    tokens whose ids stand under keys such as "fim_pre_token_id". `context` is the training context
    in tokens. The architecture is llama's, or, with a `window` in tokens, gemma2's: every other
    layer sees that far back. It then has as many layers as gemma2's smallest model, by which
    ik_llama.cpp knows it.
    """
    merges = _train_merges(n_vocab_extra)
    writer = gguf.GGUFWriter(path, "gemma2" if window else "llama")
    num_layers = NUM_GEMMA_LAYERS if window else NUM_LAYERS
    _add_shape(writer, context, num_layers)
    if window:
        writer.add_sliding_window(window)
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)
        writer.add_key_length(WIDTH // NUM_HEADS)
        writer.add_value_length(WIDTH // NUM_HEADS)
    num_tokens = _add_vocabulary(writer, merges, pre, more_control_tokens, token_keys or {})
    for name, weights in _weights(np.random.default_rng(seed), num_tokens, num_layers):
        if not (window and name == "output.weight"):  # gemma's is the embedding
            writer.add_tensor(name, weights)
    if window:
        for layer in range(num_layers):
            for part in ("post_attention_norm", "post_ffw_norm"):
                writer.add_tensor(f"blk.{layer}.{part}.weight", np.ones(WIDTH, dtype=np.float32))
    write_out(writer)
    return path


def write_out(writer: gguf.GGUFWriter) -> None:
    """The file with all that was added."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, context: int, num_layers: int) -> None:
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(num_layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // NUM_HEADS)


def _add_vocabulary(
    writer: gguf.GGUFWriter,
    merges: Sequence[tuple[bytes, bytes]],
    pre: str,
    more_control_tokens: Sequence[str],
    token_keys: Mapping[str, str],
) -> int:
    normal = [bytes((byte,)) for byte in range(256)] + [left + right for left, right in merges]
    normal.append(_UNMERGED)
    tokens = [*map(spelling_of, normal), *CONTROL_TOKENS, *USER_DEFINED_TOKENS]
    tokens += more_control_tokens
    kinds = [gguf.TokenType.NORMAL] * len(normal)
    kinds += [gguf.TokenType.CONTROL] * len(CONTROL_TOKENS)
    kinds += [gguf.TokenType.USER_DEFINED] * len(USER_DEFINED_TOKENS)
    kinds += [gguf.TokenType.CONTROL] * len(more_control_tokens)
    for key, text in token_keys.items():
        writer.add_uint32(f"tokenizer.ggml.{key}", tokens.index(text))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{spelling_of(a)} {spelling_of(b)}" for a, b in merges])
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    return len(tokens)


def _weights(
    random: np.random.Generator, num_tokens: int, num_layers: int
) -> Iterator[tuple[str, np.ndarray]]:
    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)

    ones = np.ones(WIDTH, dtype=np.float32)
    narrow = WIDTH // NUM_HEADS * NUM_KV_HEADS
    yield "token_embd.weight", matrix(num_tokens, WIDTH)
    yield "output_norm.weight", ones
    yield "output.weight", matrix(num_tokens, WIDTH) * 2
    for layer in range(num_layers):
        yield f"blk.{layer}.attn_norm.weight", ones
        yield f"blk.{layer}.attn_q.weight", matrix(WIDTH, WIDTH) * 3
        yield f"blk.{layer}.attn_k.weight", matrix(narrow, WIDTH)
        yield f"blk.{layer}.attn_v.weight", matrix(narrow, WIDTH) * 2
        yield f"blk.{layer}.attn_output.weight", matrix(WIDTH, WIDTH) * 2
        yield f"blk.{layer}.ffn_norm.weight", ones
        yield f"blk.{layer}.ffn_gate.weight", matrix(FEED_FORWARD, WIDTH)
        yield f"blk.{layer}.ffn_up.weight", matrix(FEED_FORWARD, WIDTH)
        yield f"blk.{layer}.ffn_down.weight", matrix(WIDTH, FEED_FORWARD) * 2


@cache
def _train_merges(count: int) -> Sequence[tuple[bytes, bytes]]:
    """Plain BPE training on the words of a short text."""
    words = [*(f" {word}" for word in _TEXT.split(" ")), *_RUNS]
    symbols = [[bytes((byte,)) for byte in word.encode()] for word in words]
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < count:
        pairs = Counter(pair for word in symbols for pair in pairwise(word))
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        symbols = [_merge(word, best) for word in symbols]
    return tuple(merges)


def _merge(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    merged: list[bytes] = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged
