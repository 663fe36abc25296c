"""int4-awq: the decoder that calibrates, the searches, the folding, and what is written."""

import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.calibration.calibrate import _LayerSearch
from convert.calibration.decoder import Decoder
from convert.calibration.folding import folded_norm
from convert.calibration.inputs import Inputs
from convert.calibration.search import search_scale, search_steps
from convert.calibration.text import calibration_sequences, read_text
from convert.checks.decoding import decoded_weights
from convert.checks.verify import Target, verify_against
from convert.pipeline.plan import Options, make_plan
from convert.source.gguf import GGUFSource
from convert.target.layouts import int4_steps
from convert.target.recipe import Recipe, Rule, make_recipe
from convert.tensors.weights import Weight
from runtime.errors import SetupError
from runtime.tokenizers.load import load_tokenizer
from tests.kit.models.conversion import converted
from tests.kit.models.reference_model import last_logits
from tests.kit.models.tiny_checkpoints import (
    NUM_LAYERS,
    tiny_gguf,
)

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")
TEXT = "The quick brown fox jumps over the lazy dog, again and again. " * 30


class Weights:
    def __init__(self, weights: dict[str, np.ndarray], planned: Iterable[Weight] = ()) -> None:
        self._weights = weights
        self.weights = {weight.name: weight for weight in planned}

    def has(self, name: str) -> bool:
        return name in self._weights

    def load(self, name: str) -> np.ndarray:
        return self._weights[name].copy()


def run(path: Path, target: Path, recipe: Recipe | str = "int4-awq", **options: Any) -> Path:
    text = target.parent / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    return converted(path, target, recipe, **{"calibration": str(text), **options})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_decoder_computes_the_reference_models_logits(
    architecture: str, tmp_path: Path
) -> None:
    path, weights = tiny_gguf(tmp_path, architecture)
    config = make_plan(path, make_recipe("bf16"), Options()).config
    ids = [5, 77, 9, 260, 33, 5, 120, 201, 7]
    decoder = Decoder(config, Weights(weights), lambda names, x: None)
    embedding = weights["model.embed_tokens.weight"]
    # two equal sequences: neither sees the other
    hidden = decoder.embed(embedding[ids + ids])
    for layer in range(NUM_LAYERS):
        hidden = decoder.layer(hidden, layer, len(ids))
    normed = decoder._norm(hidden, "model.norm")
    logits = normed[[len(ids) - 1, -1]] @ weights.get("lm_head.weight", embedding).T
    if limit := config.get("final_logit_softcapping"):
        logits = limit * np.tanh(logits / limit)

    expected = last_logits(config, weights, ids)
    assert np.abs(logits - expected).max() < 1e-3 * expected.std()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    gemma=st.booleans(),
    dtype=st.sampled_from(["bfloat16", "float16"]),
)
def test_a_folded_norm_times_its_weights_is_the_original(
    seed: int, gemma: bool, dtype: Any
) -> None:
    random = np.random.default_rng(seed)
    norm = random.normal(0 if gemma else 1, 0.4, 64).astype(np.float32)
    norm[::16] = -1 if gemma else 0
    scale = np.exp(random.normal(0, 2, 64)).astype(np.float32)
    written, magnified = folded_norm(norm, scale, dtype, gemma=gemma)

    np.testing.assert_allclose((written + gemma) * magnified, norm + gemma, rtol=1e-5)
    assert (magnified[::16] == 1).all()
    assert np.isfinite(written).all()
    assert np.isfinite(magnified).all()


def test_the_search_magnifies_the_inputs_that_matter() -> None:
    random = np.random.default_rng(1)
    x = random.normal(0, 1, (512, 256)).astype(np.float32)
    x[:, ::32] *= 50
    weight = random.normal(0, 1, (64, 256)).astype(np.float32)
    inputs = Inputs(x)
    scale = search_scale(inputs, [lambda: weight])
    plain = int4_steps(np.abs(weight.reshape(64, 2, 128)).max(axis=2), "bfloat16")

    def loss(scale: np.ndarray, steps: np.ndarray) -> float:
        levels = (weight * scale).reshape(64, 2, 128) / steps[..., None]
        written = (np.clip(np.rint(levels), -8, 7) * steps[..., None]).reshape(64, 256) / scale
        return float(np.square(x @ (written - weight).T).sum())

    scaled = np.abs((weight * scale).reshape(64, 2, 128)).max(axis=2)
    unclipped = int4_steps(scaled, "bfloat16")
    clipped = search_steps(weight * scale, "bfloat16", inputs.gram(scale))
    np.testing.assert_array_equal(search_steps(weight * scale, "bfloat16", None), unclipped)
    assert scale[::32].min() > 2 * scale[1::32].max()
    assert loss(scale, unclipped) < 0.5 * loss(np.ones(256, dtype=np.float32), plain)
    assert loss(scale, clipped) < loss(scale, unclipped)


def test_a_few_huge_tokens_do_not_decide() -> None:
    random = np.random.default_rng(2)
    x = random.normal(0, 1, (100, 128)).astype(np.float32)
    x[0] *= 1000
    shortened = Inputs(x).tokens(slice(None))
    norms = np.linalg.norm(shortened, axis=1)

    assert norms.max() == pytest.approx(np.median(np.linalg.norm(x, axis=1)), rel=1e-3)
    assert (shortened[norms < norms.max() * 0.999] == x[norms < norms.max() * 0.999]).all()


def test_inputs_are_summed_in_parts() -> None:
    x = np.random.default_rng(3).normal(0, 1, (1300, 256)).astype(np.float32)
    inputs = Inputs(x)
    whole = inputs.tokens(slice(None))
    divided = (whole / np.arange(1, 257, dtype=np.float32)).reshape(-1, 2, 128)

    np.testing.assert_allclose(inputs.mean(), np.abs(whole).mean(axis=0), rtol=1e-5)
    expected = np.einsum("tgi,tgj->gij", divided, divided, optimize=True)
    found = inputs.gram(np.arange(1, 257, dtype=np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_the_widest_inputs_are_in_memory_once(tmp_path: Path) -> None:
    """A layer with the search for down_proj; all else that it keeps of a token is narrower."""
    width, wide, tokens = 128, 2048, 4096
    random = np.random.default_rng(4)
    path, weights = tiny_gguf(tmp_path, "llama")
    plan = make_plan(path, make_recipe("int4-awq"), Options())
    name = "model.layers.0.mlp"
    shapes = {"gate_proj": (wide, width), "up_proj": (wide, width), "down_proj": (width, wide)}
    changed = {f"{name}.{part}.weight": shape for part, shape in shapes.items()}
    made = {n: random.normal(0, 0.1, shape).astype(np.float32) for n, shape in changed.items()}
    weights |= made
    planned = [msgspec.structs.replace(w, shape=changed.get(w.name, w.shape)) for w in plan.weights]
    loader = Weights(weights, planned)
    rules = (Rule(match="*.self_attn.*", precision="keep"), Rule("*.[gu]*_proj.*", "keep"))
    recipe = Recipe(precision="int4-awq", rules=rules)
    search = _LayerSearch(loader, recipe, gemma=False)
    hidden = random.normal(0, 1, (tokens, width)).astype(np.float32)
    decoder = Decoder(plan.config, loader, search.observe)
    tracemalloc.start()
    try:
        decoder.layer(hidden, 0, 512)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert search.take().keys() == {f"{name}.down_proj.{part}" for part in ("steps", "input_scale")}
    assert tokens * wide * 4 < peak < 1.9 * tokens * wide * 4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_checkpoint_is_the_model_it_came_from(architecture: str, tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, architecture)
    target = run(path, tmp_path / "target")
    plain = run(path, tmp_path / "rtn", "int4-rtn")
    written = dict(decoded_weights(Target(target)))
    gemma = float(architecture.startswith("gemma"))
    norm = written["model.layers.0.input_layernorm.weight"] + gemma
    name = "model.layers.0.self_attn.q_proj.weight"
    original = weights[name] * (weights["model.layers.0.input_layernorm.weight"] + gemma)

    assert (
        json.loads((target / "hf_quant_config.json").read_text())["quantization"]["quant_algo"]
        == "W4A16_AWQ"
    )
    assert not (target / "calibration").exists()
    assert (norm != weights["model.layers.0.input_layernorm.weight"] + gemma).any()
    error = np.linalg.norm(written[name] * norm - original) / np.linalg.norm(original)
    assert error < 0.2
    config = json.loads((target / "config.json").read_text())
    ids = [5, 77, 9, 260, 33]
    expected = last_logits(config, weights, ids)
    kept = {**dict(decoded_weights(Target(plain)))}
    distance = [np.linalg.norm(last_logits(config, w, ids) - expected) for w in (written, kept)]
    assert distance[0] < 1.5 * distance[1] < 1.5 * np.linalg.norm(expected)
    checked = list(verify_against(target, path))
    assert all(tensor.passed for tensor in checked)
    assert name in {tensor.name for tensor in checked}


def test_an_interrupted_run_does_not_search_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    whole = run(path, tmp_path / "whole")
    read = GGUFSource.open_tensor
    calls: list[str] = []

    def fail_late(self: GGUFSource, name: str) -> Any:
        calls.append(name)
        if calls.count("blk.1.ffn_down.weight") == 3:  # searched, and then computed
            raise KeyboardInterrupt
        return read(self, name)

    monkeypatch.setattr(GGUFSource, "open_tensor", fail_late)
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "target")
    assert [p.name for p in (tmp_path / "target.partial" / "calibration").iterdir()] == [
        "0.safetensors"
    ]
    monkeypatch.undo()
    again = run(path, tmp_path / "target")
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_threads_read_what_was_found_without_pythons_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython 3.11's fails now and then where several threads parse at once."""
    path, _ = tiny_gguf(tmp_path, "llama")
    whole = run(path, tmp_path / "whole")

    def fail(*_: Any, **__: Any) -> None:
        raise SystemError("AST constructor recursion depth mismatch (before=51, after=45)")

    monkeypatch.setattr("ast.parse", fail)
    again = run(path, tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "phi3")
    with pytest.raises(SetupError, match="int4-awq is not possible for phi3"):
        run(path, tmp_path / "phi")
    path, _ = tiny_gguf(tmp_path, "llama")
    short = tmp_path / "short.txt"
    short.write_text("Too short.", encoding="utf-8")
    with pytest.raises(SetupError, match="--calibration: the text has"):
        run(path, tmp_path / "short", calibration=str(short))
    with pytest.raises(SetupError, match=r"--calibration .*missing"):
        run(path, tmp_path / "none", calibration=str(tmp_path / "missing.txt"))


def test_a_recipe_mixes_it_with_others(tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, "llama")
    rules = (Rule(match="model.layers.0.mlp.*", precision="fp8"),)
    target = run(path, tmp_path / "target", Recipe(precision="int4-awq", rules=rules))
    written = dict(decoded_weights(Target(target)))
    name = "model.layers.0.post_attention_layernorm.weight"

    assert (written[name] == weights[name]).all()
    name = "model.layers.1.post_attention_layernorm.weight"
    assert (written[name] != weights[name]).any()


def test_the_text_that_comes_with_it_is_long_enough(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    tokenizer = load_tokenizer(run(path, tmp_path / "target", "bf16"))
    sequences = calibration_sequences(read_text(""), tokenizer)
    assert sequences.shape[1] == 512
    assert sequences.size >= 4096
