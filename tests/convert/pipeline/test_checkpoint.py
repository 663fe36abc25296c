"""Whole conversions of tiny models: the same weights, the same logits, files that others read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int32
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors import safe_open

import convert.pipeline.convert as pipeline
from convert.architectures import KNOWN
from convert.checks.verify import Target, verify, verify_against
from convert.pipeline.convert import convert
from convert.pipeline.plan import Options
from convert.target.layouts import from_bf16
from convert.target.recipe import Recipe, Rule, make_recipe
from convert.tensors.safetensors_file import read_places
from runtime.errors import ModelFileError, SetupError
from runtime.models.gguf import read_gguf
from tests.kit.models.conversion import converted
from tests.kit.models.reference_model import last_logits
from tests.kit.models.tiny_checkpoints import (
    ARCHITECTURES,
    HEAD_DIM,
    WITH_EXPERTS,
    tiny_gguf,
)

TOKEN_IDS = [5, 77, 9, 260, 33, 5, 120, 201, 7]


def ignore(num_bytes: int) -> None:
    """Nobody watches the progress."""


def load_plain(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a bf16 checkpoint, read with nothing of the converter but the cast."""
    weights = {}
    for name, place in read_places(folder / "model.safetensors").items():
        assert place.output.dtype == "BF16"
        with open(folder / place.file, "rb") as file:
            file.seek(place.offset)
            data = np.frombuffer(file.read(place.output.num_bytes), dtype="<u2")
        weights[name] = from_bf16(data).reshape(place.output.shape)
    return weights


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def llama_context(path: Path) -> Iterator[Any]:
    """llama.cpp with everything in float32 that can be."""
    llama_cpp = pytest.importorskip("llama_cpp")
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False  # repacked weights crash on some virtual machines
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model, path
    context_params = llama_cpp.llama_context_default_params()
    context_params.n_ctx, context_params.n_threads = 64, 1
    context_params.type_k = context_params.type_v = llama_cpp.GGML_TYPE_F32
    context = llama_cpp.llama_init_from_model(model, context_params)
    assert context, path
    yield context
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


def llama_cpp_logits(path: Path, token_ids: list[int]) -> np.ndarray:
    llama_cpp = pytest.importorskip("llama_cpp")
    num_tokens = len(read_gguf(path).strings("tokenizer.ggml.tokens"))
    with llama_context(path) as context:
        tokens = (c_int32 * len(token_ids))(*token_ids)
        assert (
            llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(token_ids)))
            == 0
        )
        pointer = llama_cpp.llama_get_logits_ith(context, -1)
        return np.ctypeslib.as_array(pointer, shape=(num_tokens,)).copy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_weights_are_the_original_ones(architecture: str, tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, architecture)
    written = load_plain(converted(path, tmp_path / "target"))

    assert written.keys() == weights.keys()
    for name, values in weights.items():
        # 1 + w is rounded in the file where w is small
        tolerance = 2**-7 if "norm" in name and architecture.startswith("gemma") else 0
        np.testing.assert_allclose(written[name], values, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_as_llama_cpp_computes_them(architecture: str, tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, architecture)
    target = converted(path, tmp_path / "target")
    expected = llama_cpp_logits(path, TOKEN_IDS)
    ours = last_logits(read_json(target / "config.json"), load_plain(target), TOKEN_IDS)

    assert expected.std() > 0.1
    assert np.abs(ours - expected).max() < 0.02 * expected.std()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_reads_the_configuration(architecture: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    path, weights = tiny_gguf(tmp_path, architecture)
    target = converted(path, tmp_path / "target")
    config = transformers.AutoConfig.from_pretrained(target)
    generation = transformers.GenerationConfig.from_pretrained(target)

    assert config.architectures[0].lower().startswith(architecture)
    assert config.hidden_size == weights["model.norm.weight"].size
    assert getattr(config, "head_dim", HEAD_DIM) == HEAD_DIM
    assert config.tie_word_embeddings == ("lm_head.weight" not in weights)
    assert config.vocab_size == len(weights["model.embed_tokens.weight"])
    assert len(generation.eos_token_id) == 2


def test_every_known_architecture_is_tested() -> None:
    assert KNOWN.keys() == set(ARCHITECTURES) - {"mixtral"}, "Mixtral's files say llama"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["fp16", "fp8", "int8", "int4-rtn"])
def test_every_precision(architecture: str, precision: str, tmp_path: Path) -> None:
    if architecture == "phi3" and precision == "int4-rtn":
        pytest.skip("refused, see below")
    if architecture in WITH_EXPERTS and precision in ("fp8", "int4-rtn"):
        pytest.skip("refused, see below")
    path, _ = tiny_gguf(tmp_path, architecture)
    target = converted(path, tmp_path / "target", precision, release="1.3")
    tensors = list(verify_against(target, path))

    assert tensors
    assert all(tensor.passed for tensor in tensors)
    assert all(tensor.difference.cosine > 0.98 for tensor in tensors)
    recorded = {tensor.name: tensor.difference.error for tensor in verify(target)}
    for tensor in tensors:
        assert recorded[tensor.name] == pytest.approx(tensor.difference.error, rel=1e-5)


@pytest.mark.parametrize("architecture", WITH_EXPERTS)
def test_experts_kept_beside_quantized_attention(architecture: str, tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, architecture)
    recipe = Recipe(precision="fp8", rules=(Rule("*.experts.*", "keep"),))
    target = converted(path, tmp_path / "target", recipe)
    quantization = read_json(target / "hf_quant_config.json")["quantization"]
    module = "mlp" if architecture == "qwen3moe" else "block_sparse_moe"
    places = read_places(target / "model.safetensors")

    assert quantization["quant_algo"] == "FP8"
    assert quantization["exclude_modules"] == [
        "lm_head",
        "*.gate",
        f"model.layers.0.{module}.experts",
        f"model.layers.0.{module}.experts.*",
        f"model.layers.1.{module}.experts",
        f"model.layers.1.{module}.experts.*",
    ]
    assert places[f"model.layers.0.{module}.gate.weight"].output.dtype == "BF16"
    assert places["model.layers.0.self_attn.q_proj.weight"].output.dtype == "F8_E4M3"
    assert all(tensor.passed for tensor in verify_against(target, path))


def test_quantized_experts_are_cut_at_their_rows(tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, "mixtral", kind=gguf.GGMLQuantizationType.Q8_0)
    written = load_plain(converted(path, tmp_path / "target"))

    assert written.keys() == weights.keys()
    for name, values in weights.items():
        error = np.linalg.norm(written[name] - values) / np.linalg.norm(values)
        assert error < (0.01 if "_proj" in name or ".experts." in name else 0.02), name


@pytest.mark.parametrize("key", ["expert_count", "expert_used_count"])
def test_counts_of_experts_that_are_not_true(key: str, tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "qwen3moe")
    data = bytearray(path.read_bytes())
    place = data.index(f"qwen3moe.{key}".encode()) + len(f"qwen3moe.{key}") + 4
    data[place] += 3
    path.write_bytes(data)

    with pytest.raises(ModelFileError, match=r"`expert_used_count` is 5|shape is \(4, "):
        converted(path, tmp_path / "target")


def test_safetensors_reads_the_files(tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, "llama")
    target = converted(path, tmp_path / "target", "fp16")

    with safe_open(target / "model.safetensors", framework="numpy") as file:
        assert set(file.keys()) == weights.keys()
        for name in file.keys():  # noqa: SIM118 - the file is no dictionary
            np.testing.assert_array_equal(file.get_tensor(name), weights[name].astype(np.float16))


def test_fused_layers_share_one_fp8_scale(tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, "qwen3")
    target = converted(path, tmp_path / "target", "fp8")
    prefix = "model.layers.1.self_attn"
    scales = {part: scalar(target, f"{prefix}.{part}_proj.weight_scale") for part in "qkvo"}
    largest = max(np.abs(weights[f"{prefix}.{part}_proj.weight"]).max() for part in "qkv")

    assert scales["q"] == scales["k"] == scales["v"] == pytest.approx(largest / 448)
    assert scales["o"] != scales["q"]


def scalar(folder: Path, name: str) -> float:
    place = read_places(folder / "model.safetensors")[name]
    assert place.output.shape == ()
    with open(folder / place.file, "rb") as file:
        file.seek(place.offset)
        return float(np.frombuffer(file.read(4), dtype="<f4")[0])


def test_what_the_loader_is_told(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    recipe = make_recipe("int4-rtn", kv_cache="fp8")
    quantization = read_json(converted(path, tmp_path / "a", recipe) / "hf_quant_config.json")

    assert quantization["quantization"] == {
        "quant_algo": "W4A16_AWQ",
        "kv_cache_quant_algo": "FP8",
        "group_size": 128,
        "has_zero_point": False,
        "pre_quant_scale": True,
        "exclude_modules": ["lm_head"],
    }
    assert not (converted(path, tmp_path / "b", "bf16") / "hf_quant_config.json").exists()


def test_a_mixed_recipe(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    rules = (Rule("*.0.mlp.*", "keep"), Rule("*.self_attn.*", "fp8"))
    target = converted(path, tmp_path / "target", Recipe(precision="int4-rtn", rules=rules))
    quantization = read_json(target / "hf_quant_config.json")["quantization"]
    layers = read_json(target / "quant_cfg.json")["quantized_layers"]

    assert quantization["quant_algo"] == "MIXED_PRECISION"
    assert "model.layers.0.mlp.gate_up_proj" in quantization["exclude_modules"]
    assert "model.layers.0.mlp.gate_proj" in quantization["exclude_modules"]
    assert layers["model.layers.0.self_attn.q_proj"] == {"quant_algo": "FP8"}
    assert layers["model.layers.1.mlp.down_proj"]["quant_algo"] == "W4A16_AWQ"
    assert "model.layers.0.mlp.down_proj" not in layers
    assert all(tensor.passed for tensor in verify_against(target, path))


@pytest.mark.parametrize(
    ("recipe", "architecture", "message"),
    [
        (Recipe(precision="fp8", rules=(Rule("*.q_proj.*", "keep"),)), "llama", "loader fuses"),
        (Recipe(precision="fp8", rules=(Rule("*.qq.*", "keep"),)), "llama", "matches no linear"),
        (make_recipe("int8"), "qwen2", r"drops the bias of int8 layers.*q_proj\.bias|k_proj\.bias"),
        (make_recipe("int4-rtn"), "phi3", "int4-rtn is not possible for phi3"),
        (make_recipe("fp8"), "qwen3moe", r"fp8: not possible for the experts.*`input_scale`"),
        (make_recipe("int4-rtn"), "mixtral", "int4-rtn: not possible for the experts.*FP8"),
        (
            Recipe(precision="int8", rules=(Rule("*.experts.2.*", "keep"),)),
            "qwen3moe",
            r"experts\.\d\..* is int8 and .*experts\.\d\..* is keep|is keep and .* is int8",
        ),
    ],
)
def test_what_cannot_be_loaded_is_refused(
    recipe: Recipe, architecture: str, message: str, tmp_path: Path
) -> None:
    path, _ = tiny_gguf(tmp_path, architecture)

    with pytest.raises(SetupError, match=message):
        converted(path, tmp_path / "target", recipe)
    assert not list(tmp_path.glob("target*"))


def test_shards_and_their_index(tmp_path: Path) -> None:
    path, weights = tiny_gguf(tmp_path, "llama")
    target = converted(path, tmp_path / "target", max_shard_bytes=200_000)
    index = read_json(target / "model.safetensors.index.json")
    files = sorted(file.name for file in target.glob("*.safetensors"))

    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert index["weight_map"].keys() == weights.keys()
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(2 * values.size for values in weights.values())
    for name, file in index["weight_map"].items():
        assert name in read_places(target / file)
    assert all(tensor.passed for tensor in verify_against(target, path))


def test_an_existing_target_is_left_alone(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    (tmp_path / "target").mkdir()

    with pytest.raises(SetupError, match="exists and is not overwritten"):
        converted(path, tmp_path / "target")
    assert not list((tmp_path / "target").iterdir())


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    expected = converted(path, tmp_path / "expected", "fp8") / "model.safetensors"
    seen = []

    def interrupt(num_bytes: int) -> None:
        seen.append(num_bytes)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(path, tmp_path / "target", make_recipe("fp8"), Options(num_threads=1), interrupt)
    assert not (tmp_path / "target").exists()
    journal = (tmp_path / "target.partial" / "journal.jsonl").read_text(encoding="utf-8")
    done = {json.loads(line)["name"] for line in journal.splitlines()}

    blocks = pipeline.read_blocks
    read = []
    monkeypatch.setattr(pipeline, "read_blocks", lambda s, w: read.append(w.name) or blocks(s, w))
    result = converted(path, tmp_path / "target", "fp8")

    left = {tensor.name for tensor in Target(result).manifest.tensors} - done
    assert len(done) >= 6
    assert set(read) - done == left
    # fused weights share a scale, so that the finished ones of a group are measured again
    assert len(set(read) & done) <= 2
    assert (result / "model.safetensors").read_bytes() == expected.read_bytes()
    assert {file.name for file in result.iterdir()} == {
        file.name for file in expected.parent.iterdir()
    }


def test_damage_to_unfinished_work_is_repaired(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    expected = converted(path, tmp_path / "expected") / "model.safetensors"

    def stop_at_the_last(num_bytes: int) -> None:
        journal = tmp_path / "target.partial" / "journal.jsonl"
        if journal.read_bytes().count(b"\n") == 21:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(
            path, tmp_path / "target", make_recipe("bf16"), Options(num_threads=1), stop_at_the_last
        )
    partial = tmp_path / "target.partial"
    with open(partial / "model.safetensors", "r+b") as file:
        file.seek(expected.stat().st_size // 2)
        file.write(b"damage")
    with open(partial / "journal.jsonl", "ab") as journal:
        journal.write(b'{"name": "torn')

    assert (
        converted(path, tmp_path / "target") / "model.safetensors"
    ).read_bytes() == expected.read_bytes()


def test_work_on_something_else_is_not_taken_up(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")

    def interrupt(num_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(path, tmp_path / "target", make_recipe("bf16"), Options(), interrupt)

    with pytest.raises(SetupError, match=r"target\.partial was begun with another source"):
        converted(path, tmp_path / "target", "fp8")


@pytest.mark.parametrize("what", ["data", "tensor", "tokenizer"])
def test_verify_finds_damage(what: str, tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    target = converted(path, tmp_path / "target")
    file = target / "model.safetensors"
    if what == "data":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    elif what == "tensor":
        file.write_bytes(file.read_bytes().replace(b'"model.norm.weight"', b'"model.nxrm.weight"'))
    else:
        (target / "tokenizer_config.json").unlink()

    with pytest.raises(ModelFileError, match=r"is damaged|is missing|is not in the manifest"):
        verify(target)


def test_verify_notices_another_model(tmp_path: Path) -> None:
    path, _ = tiny_gguf(tmp_path, "llama")
    target = converted(path, tmp_path / "target")
    other, _ = tiny_gguf(tmp_path, "llama", name="other.gguf", seed=1)

    assert not any(tensor.passed for tensor in verify_against(target, other))


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
