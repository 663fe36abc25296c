"""A fixed model of some hundred kilobytes in a GGUF file, with weights of the usual types."""

from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float32]

NUM_VOCAB, NUM_LAYERS, WIDTH, NUM_HEADS, NUM_KV_HEADS, FEED_FORWARD = 64, 2, 256, 4, 2, 256
HEAD_SIZE = WIDTH // NUM_HEADS
NORM_EPSILON = 1e-5
ROPE_BASE = 10000.0
CONTEXT = 256

_NARROW = HEAD_SIZE * NUM_KV_HEADS
_LAYERS = (
    {
        "attn_q": (WIDTH, Kind.Q4_K),
        "attn_k": (_NARROW, Kind.Q5_0),
        "attn_v": (_NARROW, Kind.Q8_0),
        "attn_output": (WIDTH, Kind.Q4_K),
        "ffn_gate": (FEED_FORWARD, Kind.Q4_0),
        "ffn_up": (FEED_FORWARD, Kind.Q4_1),
        "ffn_down": (WIDTH, Kind.Q6_K),
    },
    {
        "attn_q": (WIDTH, Kind.Q5_0),
        "attn_k": (_NARROW, Kind.Q4_K),
        "attn_v": (_NARROW, Kind.Q6_K),
        "attn_output": (WIDTH, Kind.Q4_0),
        "ffn_gate": (FEED_FORWARD, Kind.Q8_0),
        "ffn_up": (FEED_FORWARD, Kind.Q4_K),
        "ffn_down": (WIDTH, Kind.Q4_1),
    },
)

# Where in a block a scale stands, and what it is in units of the first one: random blocks then have
# values around zero.
_SCALES = {
    Kind.Q4_0: ((0, 1.0),),
    Kind.Q4_1: ((0, 1.0), (2, -7.5)),
    Kind.Q5_0: ((0, 1.0),),
    Kind.Q8_0: ((0, 1.0),),
    Kind.Q4_K: ((0, 1.0), (2, 7.5)),
    Kind.Q6_K: ((208, 1.0),),
}


def write_model(path: Path) -> dict[str, Values]:
    """Write the model, the same every time. Returns its weights, dequantised, by name."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer)
    _add_vocabulary(writer)
    weights: dict[str, Values] = {}

    def add(name: str, rows: int, kind: Kind) -> None:
        blocks = _random_blocks(random, rows, kind)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=kind)
        weights[name] = dequantize(blocks, kind)

    def add_ones(name: str) -> None:
        weights[name] = np.ones(WIDTH, np.float32)
        writer.add_tensor(f"{name}.weight", weights[name])

    weights["token_embd"] = random.normal(0, 1, (NUM_VOCAB, WIDTH)).astype(np.float32)
    writer.add_tensor("token_embd.weight", weights["token_embd"])
    for number, tensors in enumerate(_LAYERS):
        for name, (rows, kind) in tensors.items():
            add(f"blk.{number}.{name}", rows, kind)
        add_ones(f"blk.{number}.attn_norm")
        add_ones(f"blk.{number}.ffn_norm")
    add_ones("output_norm")
    add("output", NUM_VOCAB, Kind.Q6_K)
    _write(writer)
    return weights


def _random_blocks(random: np.random.Generator, rows: int, kind: Kind) -> NDArray[np.uint8]:
    """Rows of `WIDTH` values whose variance is that of an initial weight."""
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    num_blocks = rows * WIDTH // block_size
    blocks = random.integers(0, 256, (num_blocks, block_bytes)).astype(np.uint8)
    for scale in (1.0, None):
        unit = scale or float(WIDTH**-0.5 / dequantize(blocks, kind).std())
        for offset, factor in _SCALES[kind]:
            blocks[:, offset : offset + 2] = np.frombuffer(
                np.float16(unit * factor).tobytes(), np.uint8
            )
    return blocks.reshape(rows, -1)


def _add_shape(writer: gguf.GGUFWriter) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(NUM_LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_KV_HEADS)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_dimension_count(HEAD_SIZE)
    writer.add_rope_freq_base(ROPE_BASE)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    """The least that libraries take: single characters, and no merges."""
    tokens = [chr(ord("!") + number) for number in range(NUM_VOCAB)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * NUM_VOCAB)
    writer.add_token_merges([f"{tokens[0]} {tokens[1]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
