"""Fixed models of some hundred kilobytes in GGUF files, with weights of the usual types."""

from pathlib import Path
from typing import TypeAlias

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float32]

NUM_VOCAB, NUM_LAYERS, NUM_HEADS, NUM_KV_HEADS = 64, 2, 4, 2
WIDTHS = (256, 320)
"""How many values rows of weights have. Kernels take several blocks of 32 at once, and must not
leave out what is left in the second."""

NORM_EPSILON = 1e-5
ROPE_BASE = 10000.0
CONTEXT = 256

_ALL, _NARROW = 1.0, NUM_KV_HEADS / NUM_HEADS  # rows of a matrix, as a share of the width
_LAYERS = (
    {
        "attn_q": (_ALL, Kind.Q4_K),
        "attn_k": (_NARROW, Kind.Q5_0),
        "attn_v": (_NARROW, Kind.Q8_0),
        "attn_output": (_ALL, Kind.Q4_K),
        "ffn_gate": (_ALL, Kind.Q4_0),
        "ffn_up": (_ALL, Kind.Q4_1),
        "ffn_down": (_ALL, Kind.Q6_K),
    },
    {
        "attn_q": (_ALL, Kind.Q5_0),
        "attn_k": (_NARROW, Kind.Q4_K),
        "attn_v": (_NARROW, Kind.Q6_K),
        "attn_output": (_ALL, Kind.Q4_0),
        "ffn_gate": (_ALL, Kind.Q8_0),
        "ffn_up": (_ALL, Kind.Q4_K),
        "ffn_down": (_ALL, Kind.Q4_1),
    },
)

_BLOCKS_OF_256 = {Kind.Q4_K: Kind.Q5_1, Kind.Q6_K: Kind.Q8_0}
"""What stands in their place where rows have no multiple of 256 values."""

# Where in a block a scale stands, and what it is in units of the first one: random blocks then have
# values around zero.
_SCALES = {
    Kind.Q4_0: ((0, 1.0),),
    Kind.Q4_1: ((0, 1.0), (2, -7.5)),
    Kind.Q5_0: ((0, 1.0),),
    Kind.Q5_1: ((0, 1.0), (2, -15.5)),
    Kind.Q8_0: ((0, 1.0),),
    Kind.Q4_K: ((0, 1.0), (2, 7.5)),
    Kind.Q6_K: ((208, 1.0),),
}


def write_model(path: Path, width: int) -> dict[str, Values]:
    """Write the model of a width, the same every time. Returns its dequantised weights by name."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, width)
    _add_vocabulary(writer)
    weights: dict[str, Values] = {}

    def add(name: str, rows: int, kind: Kind) -> None:
        if width % 256:
            kind = _BLOCKS_OF_256.get(kind, kind)
        blocks = _random_blocks(random, (rows, width), kind)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=kind)
        weights[name] = dequantize(blocks, kind)

    def add_ones(name: str) -> None:
        weights[name] = np.ones(width, np.float32)
        writer.add_tensor(f"{name}.weight", weights[name])

    weights["token_embd"] = random.normal(0, 1, (NUM_VOCAB, width)).astype(np.float32)
    writer.add_tensor("token_embd.weight", weights["token_embd"])
    for number, tensors in enumerate(_LAYERS):
        for name, (share, kind) in tensors.items():
            add(f"blk.{number}.{name}", round(share * width), kind)
        add_ones(f"blk.{number}.attn_norm")
        add_ones(f"blk.{number}.ffn_norm")
    add_ones("output_norm")
    add("output", NUM_VOCAB, Kind.Q6_K)
    _write(writer)
    return weights


def _random_blocks(
    random: np.random.Generator, shape: tuple[int, int], kind: Kind
) -> NDArray[np.uint8]:
    """Rows of values whose variance is that of an initial weight."""
    rows, width = shape
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    num_blocks = rows * width // block_size
    blocks = random.integers(0, 256, (num_blocks, block_bytes)).astype(np.uint8)
    for scale in (1.0, None):
        unit = scale or float(width**-0.5 / dequantize(blocks, kind).std())
        for offset, factor in _SCALES[kind]:
            blocks[:, offset : offset + 2] = np.frombuffer(
                np.float16(unit * factor).tobytes(), np.uint8
            )
    return blocks.reshape(rows, -1)


def _add_shape(writer: gguf.GGUFWriter, width: int) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(NUM_LAYERS)
    writer.add_feed_forward_length(width)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_KV_HEADS)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_dimension_count(width // NUM_HEADS)
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
