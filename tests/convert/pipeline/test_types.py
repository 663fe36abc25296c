"""Whole files of every type of quantized block, to bf16 and back: the values that `gguf` reads.

Types that the `gguf` package cannot quantize are random blocks whose scales are set to small finite
numbers, so that every bit pattern of the values occurs.
"""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

import convert.tensors.dequantize as dequantize_module
from convert.checks.decoding import decoded_weights
from convert.checks.verify import Target, verify_against
from tests.kit.models.conversion import converted
from tests.kit.models.tiny_checkpoints import add_vocabulary, byte_level_vocabulary
from tests.kit.models.tiny_model import write_out

WIDTH, FEED_FORWARD, NUM_HEADS = 256, 256, 4
LAYER_MATRICES = {
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (WIDTH, WIDTH),
    "attn_v": (WIDTH, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate": (FEED_FORWARD, WIDTH),
    "ffn_up": (FEED_FORWARD, WIDTH),
    "ffn_down": (WIDTH, FEED_FORWARD),
}
LOADED_AS = {
    "token_embd": "model.embed_tokens",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
PLAIN = ("F32", "F16", "BF16")
# where the float16 scales of a block begin, in bytes; the others have none of that kind
SCALES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,),
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
    "IQ1_S": (0,), "IQ2_XXS": (0,), "IQ2_XS": (0,), "IQ2_S": (0,), "IQ3_XXS": (0,),
    "IQ3_S": (0,), "IQ4_NL": (0,), "IQ4_XS": (0,), "TQ1_0": (52,), "TQ2_0": (64,),
}  # fmt: skip
WITH_OTHER_SCALES = ("IQ1_M", "MXFP4", "NVFP4")
READABLE = {"F32", "F16", *(kind.name for kind in gguf.quants._type_traits)}
ALL_KINDS = (*PLAIN, *SCALES, *WITH_OTHER_SCALES)
KINDS = tuple(kind for kind in ALL_KINDS if kind in READABLE)
"""Those that the installed `gguf` can read: older ones lack the newest."""


def stored_matrix(kind: str, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A matrix as a file holds it: the plain types as numbers, the others as rows of bytes."""
    if kind in PLAIN:
        values = random.normal(0, 0.1, shape).astype(np.float32)
        return gguf.quants.quantize(values, GGMLQuantizationType[kind])
    block_values, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    num_blocks = shape[0] * shape[1] // block_values
    blocks = random.integers(0, 256, (num_blocks, block_bytes), dtype=np.uint8)
    _tame(kind, blocks, random)
    return blocks.reshape(shape[0], -1)


def _tame(kind: str, blocks: np.ndarray, random: np.random.Generator) -> None:
    """Scales that are finite, so that values are."""
    for start in SCALES.get(kind, ()):
        scales = random.normal(0, 0.01, (len(blocks), 1)).astype(np.float16)
        blocks[:, start : start + 2] = scales.view(np.uint8)
    if kind == "IQ1_M":
        # the top four bits of four 16-bit numbers at the end are one float16: 0x1…, a small one
        blocks[:, 49::2] &= 0x0F
        blocks[:, 55] |= 0x10
    elif kind == "MXFP4":
        blocks[:, 0] = random.integers(110, 125, len(blocks))
    elif kind == "NVFP4":
        blocks[:, :4] &= 0x3F


def expected_matrix(kind: str, stored: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What `gguf` makes of it, rounded to bfloat16 (to even), as float32."""
    values = gguf.quants.dequantize(stored, GGMLQuantizationType[kind]).reshape(shape)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    assert np.isfinite(values).all()
    assert np.unique(values).size > 2
    return rounded.view(np.float32)


def write_model(
    folder: Path, kind: str, *, split_max_tensors: int = 0
) -> tuple[Path, dict[str, np.ndarray]]:
    """A Qwen3 of one layer, all of its matrices of that type, and the values to be expected."""
    random = np.random.default_rng(len(kind))
    vocabulary = byte_level_vocabulary(folder)
    count = len(vocabulary["tokenizer.ggml.tokens"])
    writer = gguf.GGUFWriter(folder / "m.gguf", "qwen3", split_max_tensors=split_max_tensors)
    _add_sizes(writer)
    add_vocabulary(writer, vocabulary)
    expected = {}
    shapes = {"token_embd": (count, WIDTH), "output": (count, WIDTH)}
    for name, shape in (shapes | LAYER_MATRICES).items():
        stored = stored_matrix(kind, shape, random)
        top = name in shapes
        raw = None if kind in ("F32", "F16") else GGMLQuantizationType[kind]
        writer.add_tensor(f"{'' if top else 'blk.0.'}{name}.weight", stored, raw_dtype=raw)
        loaded = f"{'' if top else 'model.layers.0.'}{LOADED_AS[name]}.weight"
        expected[loaded] = expected_matrix(kind, stored, shape)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q_norm", "attn_k_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(WIDTH // NUM_HEADS, np.float32))
    write_out(writer)
    return sorted(folder.glob("m*.gguf"))[0], expected


def _add_sizes(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)


def check(path: Path, expected: dict[str, np.ndarray], target: Path) -> None:
    converted(path, target, num_threads=1)

    decoded = dict(decoded_weights(Target(target)))
    for name, values in expected.items():
        # both zeros are zero
        np.testing.assert_array_equal(decoded[name], values, err_msg=name)
    assert all(tensor.passed for tensor in verify_against(target, path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_one_type(kind: str, tmp_path: Path) -> None:
    path, expected = write_model(tmp_path, kind)

    check(path, expected, tmp_path / "target")


@pytest.mark.parametrize("kind", ["Q5_K", "IQ3_S"])
def test_a_split_file(kind: str, tmp_path: Path) -> None:
    path, expected = write_model(tmp_path, kind, split_max_tensors=5)

    assert path.name.endswith("-00001-of-00003.gguf")
    check(path, expected, tmp_path / "target")


@pytest.mark.parametrize("kind", ["Q4_K", "IQ2_XS", "TQ1_0"])
def test_without_llama_cpp(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dequantize_module, "ggml_function", lambda name: None)
    path, expected = write_model(tmp_path, kind)

    check(path, expected, tmp_path / "target")


def test_every_type_that_gguf_reads_is_tested() -> None:
    assert set(KINDS) == READABLE
