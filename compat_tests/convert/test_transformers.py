"""transformers on torch loads tiny models of each architecture, and computes as llama.cpp does."""

from pathlib import Path

import pytest

from benchmarks.agreement import text_logits
from convert.pipeline.convert import convert
from convert.pipeline.plan import Options
from convert.target.recipe import make_recipe
from tests.kit.engines import needs_llama_library
from tests.kit.models.tiny_checkpoints import (
    ARCHITECTURES,
    byte_level_vocabulary,
    random_weights,
    write_gguf,
)

needs_llama_library()

torch = pytest.importorskip("torch", reason="torch is not installed: scripts/compat-torch")

TOKEN_IDS = [5, 77, 9, 260, 33, 5, 120, 201, 7]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folder_is_loaded_as_it_is(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    count = len(byte_level_vocabulary(tmp_path)["tokenizer.ggml.tokens"])
    weights = random_weights(architecture, count)
    path = write_gguf(tmp_path / "m.gguf", architecture, weights)
    convert(path, tmp_path / "target", make_recipe("bf16"), Options(), lambda num_bytes: None)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "target", dtype=torch.float32)
    with torch.no_grad():
        found = model(torch.tensor([TOKEN_IDS])).logits[0].numpy()
    expected = text_logits(path, TOKEN_IDS)

    assert expected.std() > 0.1
    assert abs(found - expected).max() < 0.02 * expected.std()
