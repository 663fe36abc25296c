"""Converted checkpoints of real models on torch, beside llama.cpp with the same weights.

llama.cpp rounds activations to 8 bits where weights are quantized, so that no exact computation of
the weights can agree with the file as it is (docs/convert.md has both figures). The checkpoints are
held to a file of the same weights in float32, where llama.cpp rounds nothing.
"""

from pathlib import Path

import pytest

from benchmarks.agreement import (
    Agreement,
    Logits,
    checkpoint_logits,
    compare,
    plain_text,
    reference_library,
    text_logits,
    write_float_gguf,
)
from convert.pipeline.convert import convert
from convert.pipeline.plan import Options
from convert.target.recipe import make_recipe
from runtime.llama_library.installed import installed_families
from runtime.models.store import ModelStore
from tests.kit.engines import needs_llama_library

needs_llama_library()

pytest.importorskip("torch", reason="torch is not installed: scripts/compat-torch")

NUM_POSITIONS = 512
NUM_COMPARED = 256
MODELS = ("qwen2.5-coder-0.5b-instruct", "gemma-3-270m")
# Models as small as these lose the most.
MOST_KL = {"fp16": 0.0001, "bf16": 0.001, "int8": 0.01, "fp8": 0.03, "int4-rtn": 1.5}


class Expected:
    """A model's file, its text, and what float32 weights give."""

    def __init__(self, name: str, folder: Path) -> None:
        model = next(model for model in ModelStore().models() if model.name == name)
        if not model.is_present:
            pytest.skip(f"the model is not on this machine: lockgate pull {name}")
        self.path = model.path
        self.token_ids = plain_text(self.path, NUM_POSITIONS)
        in_float = folder / "float32.gguf"
        write_float_gguf(self.path, in_float)
        self.logits: Logits = text_logits(in_float, self.token_ids)
        in_float.unlink()


def agreement(expected: Expected, precision: str, folder: Path) -> Agreement:
    """Of the model converted to a precision, with its float32 weights."""
    target = folder / precision
    recipe = make_recipe(precision)
    convert(expected.path, target, recipe, Options(release="1.3"), lambda num_bytes: None)
    return compare(expected.logits, checkpoint_logits(target, expected.token_ids))


@pytest.fixture(scope="module", params=MODELS)
def expected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    return Expected(request.param, tmp_path_factory.mktemp("float32"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", MOST_KL)
def test_the_checkpoint_says_what_the_weights_say(
    precision: str, expected: Expected, tmp_path: Path
) -> None:
    found = agreement(expected, precision, tmp_path)

    assert found.kl < MOST_KL[precision], found
    if precision in ("bf16", "fp16"):
        assert found.top1 >= 0.99, found


@pytest.mark.timeout(600)
def test_llama_cpp_libraries_are_equally_near_to_the_weights(expected: Expected) -> None:
    """Each rounds activations to 8 bits in its own way, with weights arranged as it likes best.
    What one computes differs from the other by no more than either from what the weights say."""
    text = expected.token_ids[:NUM_COMPARED]
    exact = expected.logits[:NUM_COMPARED]
    found = {
        library: text_logits(expected.path, text, library=library, repacks=library != "llama.cpp")
        for library in installed_families()
    }
    away = {library: compare(exact, logits) for library, logits in found.items()}
    reference = reference_library()

    for library, logits in found.items():
        assert away[library].kl < 0.008, away
        assert away[library].top1 > 0.94, away
        assert away[library].kl < 1.25 * away[reference].kl, away
        assert compare(found[reference], logits).kl < 2 * away[reference].kl, away


@pytest.mark.timeout(900)
@pytest.mark.parametrize("expected", ["gemma-3-270m"], indirect=True)
def test_scales_that_were_searched_lose_less_than_rounding(
    expected: Expected, tmp_path: Path
) -> None:
    """On the model that is searched in a minute; docs/convert.md has both."""
    searched, rounded = (
        agreement(expected, precision, tmp_path).kl for precision in ("int4-awq", "int4-rtn")
    )

    assert searched < 0.5 * rounded
