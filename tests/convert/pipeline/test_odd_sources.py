"""Sources that say odd things, and what becomes of them."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from runtime.errors import ModelFileError, SetupError
from tests.kit.models.checkpoints import load_plain, read_json
from tests.kit.models.conversion import converted
from tests.kit.models.tiny_checkpoints import (
    HEAD_DIM,
    tiny_gguf,
)


def test_llama3_frequencies_become_rope_scaling(tmp_path: Path) -> None:
    wavelengths = 2 * np.pi * 10_000.0 ** (np.arange(HEAD_DIM // 2) / (HEAD_DIM // 2))
    smooth = np.clip((8192 / wavelengths - 1) / 3, 0, 1)
    factors = (1 / ((1 - smooth) / 8 + smooth)).astype(np.float32)
    path, _ = tiny_gguf(tmp_path, "llama", extra={"rope_freqs.weight": factors})
    config = read_json(converted(path, tmp_path / "target") / "config.json")

    assert 1 in factors
    assert 8 in factors
    assert config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_long_ropes_factors_are_as_the_class_takes_them(tmp_path: Path) -> None:
    """transformers 4 refuses a `rope_scaling` of Phi-3 that has more than these three fields."""
    count = HEAD_DIM // 2
    long, short = np.full(count, 4, np.float32), np.full(count, 1.5, np.float32)
    extra = {"rope_factors_long.weight": long, "rope_factors_short.weight": short}
    path, _ = tiny_gguf(tmp_path, "phi3", extra=extra)
    config = read_json(converted(path, tmp_path / "target") / "config.json")

    assert config["rope_scaling"] == {
        "type": "longrope",
        "long_factor": [4.0] * count,
        "short_factor": [1.5] * count,
    }


def test_frequencies_that_follow_no_known_rule(tmp_path: Path) -> None:
    odd = np.linspace(1, 8, HEAD_DIM // 2, dtype=np.float32)
    path, _ = tiny_gguf(tmp_path, "llama", extra={"rope_freqs.weight": odd})

    with pytest.raises(ModelFileError, match=r"`rope_freqs\.weight` does not follow"):
        converted(path, tmp_path / "target")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"blk.0.mystery.weight": np.ones(4, np.float32)}, "mystery.*has no such tensor"),
        ({"blk.7.attn_norm.weight": np.ones(4, np.float32)}, "blk.7.*has no such tensor"),
    ],
)
def test_a_tensor_that_does_not_belong(
    extra: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    path, _ = tiny_gguf(tmp_path, "llama", extra=extra)

    with pytest.raises(ModelFileError, match=message):
        converted(path, tmp_path / "target")


def test_a_tensor_that_is_missing(tmp_path: Path) -> None:
    missing = "model.layers.1.mlp.up_proj.weight"
    path, _ = tiny_gguf(tmp_path, "llama", change=lambda weights: weights.pop(missing))

    with pytest.raises(ModelFileError, match=r"the tensor `blk\.1\.ffn_up\.weight` is missing"):
        converted(path, tmp_path / "target")


@pytest.mark.parametrize(
    ("name", "number", "precision", "message"),
    [
        (
            "model.layers.1.mlp.up_proj.weight",
            np.nan,
            "bf16",
            r"blk\.1\.ffn_up\.weight: .*not finite",
        ),
        ("lm_head.weight", 70_000, "fp16", r"lm_head\.weight: .*too large for float16"),
    ],
)
def test_numbers_that_cannot_be_written(
    name: str, number: float, precision: str, message: str, tmp_path: Path
) -> None:
    path, _ = tiny_gguf(
        tmp_path, "llama", change=lambda weights: weights[name].__setitem__((3, 4), number)
    )
    with pytest.raises(ModelFileError, match=message):
        converted(path, tmp_path / "target", precision)


def test_the_originals_tokenizer_can_be_taken(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    original = tmp_path / "original"
    original.mkdir()
    (original / "tokenizer.json").write_text("{}")
    (original / "tokenizer_config.json").write_text('{"mine": true}')
    target = converted(path, tmp_path / "target", tokenizer=str(original))

    assert (target / "tokenizer.json").read_text() == "{}"
    with pytest.raises(SetupError, match=r"there is no tokenizer\.json"):
        converted(path, tmp_path / "other", tokenizer=str(tmp_path))


def test_quantized_sources(tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    path, weights = tiny_gguf(tmp_path, "llama", kind=kind)
    written = load_plain(converted(path, tmp_path / "target"))

    for name, values in weights.items():
        error = np.linalg.norm(written[name] - values) / np.linalg.norm(values)
        assert error < (0.01 if values.ndim == 2 else 1e-6)
