"""transformers on torch computes the same from a converted folder as from the folder it came from.

Packed folders have no source that transformers can run here: their integers, as they were made,
are put into the same model class.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.pipeline.convert import convert
from convert.pipeline.plan import Options
from convert.target.recipe import make_recipe
from tests.kit.models.packed_folders import (
    CLASSES,
    awq_config,
    gptq_config,
    make_weights,
    plain,
    quantize,
    write_checkpoint,
)
from tests.kit.models.tiny_checkpoints import WITH_EXPERTS

torch = pytest.importorskip("torch", reason="torch is not installed: scripts/compat-torch")

TOKEN_IDS = [5, 77, 9, 260, 33, 5, 120, 201, 7]


@pytest.mark.parametrize("architecture", CLASSES)
def test_plain_folders(architecture: str, tmp_path: Path) -> None:
    stored = plain(make_weights(architecture))
    # Phi-3's own, 32000, is beyond the tiny vocabulary
    source = write_checkpoint(
        tmp_path / "source", architecture, stored, num_files=2, config={"pad_token_id": 0}
    )
    expected = logits(source)

    assert expected.std() > 0.1
    np.testing.assert_array_equal(logits(run(source, tmp_path / "target", "bf16")), expected)


@pytest.mark.parametrize("method", ["awq", "gptq"])
@pytest.mark.parametrize("architecture", ["qwen2", *WITH_EXPERTS])
def test_packed_folders(architecture: str, method: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"act_order": True} if method == "gptq" else {}
    weights = make_weights(architecture)
    stored, made = quantize(weights, method, group_size=32, symmetric=False, **options)
    config = (awq_config if method == "awq" else gptq_config)(group_size=32)
    source = write_checkpoint(tmp_path / "source", architecture, stored, config=config)
    meant = weights | {name: quantized.values for name, quantized in made.items()}
    unpacked = write_checkpoint(tmp_path / "unpacked", architecture, plain(meant, "F16"))
    expected = logits(unpacked)

    assert expected.std() > 0.1
    np.testing.assert_array_equal(logits(run(source, tmp_path / "target", "fp16")), expected)


def run(source: Path, target: Path, precision: str) -> Path:
    convert(source, target, make_recipe(precision), Options(), lambda num_bytes: None)
    return target


def logits(folder: Path) -> "np.ndarray[Any, Any]":
    from transformers import AutoModelForCausalLM

    model, loaded = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not loaded["missing_keys"], loaded
    assert not loaded["unexpected_keys"], loaded
    with torch.no_grad():
        found: np.ndarray[Any, Any] = model(torch.tensor([TOKEN_IDS])).logits[0].numpy()
    return found
