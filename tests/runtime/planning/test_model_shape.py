"""Shapes of models: counted exactly, or refused."""

import json
from pathlib import Path
from typing import Any

import gguf
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelFileError, ModelNotFound, SetupError
from runtime.models.catalogue import shipped_catalogue
from runtime.models.gguf import read_gguf
from runtime.models.store import ModelStore
from runtime.planning.config_shape import shape_of_config
from runtime.planning.gguf_shape import shape_of_gguf
from runtime.planning.known_shapes import KNOWN_CONFIGS
from runtime.planning.plan_source import StoredWeights, find_planned_model
from tests.kit.models.shape_folders import TINY, write_shape_folder
from tests.kit.models.tiny_model import write_out, write_tiny_model

# Billions of parameters, as each model's card gives them.
PUBLISHED = {
    "qwen3-0.6b": 0.596,
    "qwen3-1.7b": 1.721,
    "qwen3-4b": 4.022,
    "qwen3-8b": 8.191,
    "qwen3-14b": 14.768,
    "qwen3-32b": 32.762,
    "qwen3-30b-a3b": 30.532,
    "qwen2.5-7b": 7.616,
    "qwen2.5-coder-0.5b-instruct": 0.494,
    "gemma-3-270m": 0.2681,
    "llama-3.2-1b": 1.236,
    "llama-3.2-3b": 3.213,
    "llama-3.1-8b": 8.030,
    "llama-3.1-70b": 70.554,
    "mistral-7b-v0.3": 7.248,
    "mixtral-8x7b": 46.703,
    "gemma-2-9b": 9.242,
    "phi-4": 14.660,
    "gpt-oss-20b": 20.915,
}


def shape(**changes: Any) -> Any:
    return shape_of_config({**TINY, **changes}, "tiny")


@pytest.mark.parametrize("name", KNOWN_CONFIGS)
def test_known_models_have_their_published_size(name: str) -> None:
    found = shape_of_config(KNOWN_CONFIGS[name], name)
    assert found.num_params / 1e9 == pytest.approx(PUBLISHED[name], rel=1e-3)


def test_every_model_of_the_catalogue_can_be_planned_without_its_file(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    for entry in shipped_catalogue():
        assert find_planned_model(entry.name, store).stored is None


@pytest.mark.parametrize(
    ("config", "billions"), [("qwen3-30b-a3b", 3.3), ("mixtral-8x7b", 12.9), ("gpt-oss-20b", 3.6)]
)
def test_active_weights_of_mixtures(config: str, billions: float) -> None:
    """As published, which counts the embedding for some; a token needs one row of it."""
    found = shape_of_config(KNOWN_CONFIGS[config], config)
    with_embedding = (found.num_active_params + found.lm_head_params) / 1e9
    assert found.num_active_params / 1e9 <= billions + 0.05
    assert with_embedding >= billions - 0.05


def test_by_hand() -> None:
    found = shape()
    attention = 64 * 64 + 2 * 64 * 32 + 64 * 64
    assert found.linear_params == 3 * (attention + 3 * 64 * 128)
    assert (found.embedding_params, found.lm_head_params) == (32_000, 32_000)
    assert found.other_params == 3 * 2 * 64 + 64
    assert (found.head_dim, found.kv_width) == (16, 2 * 2 * 16)
    assert not found.has_linear_bias


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"tie_word_embeddings": True}, -32_000),
        ({"model_type": "qwen2"}, 3 * (64 + 2 * 32)),
        ({"model_type": "qwen3"}, 3 * 2 * 16),
        ({"attention_bias": True}, 3 * (64 + 2 * 32 + 64)),
        ({"mlp_bias": True}, 3 * (2 * 128 + 64)),
        ({"num_key_value_heads": None}, 3 * 2 * 64 * 32),
        ({"head_dim": 32}, 3 * (64 * 16 * (2 * 4 + 2 * 2))),
        ({"model_type": "gemma2", "tie_word_embeddings": None}, -32_000 + 3 * 2 * 64),
    ],
)
def test_what_each_key_adds(changes: dict[str, Any], difference: int) -> None:
    assert shape(**changes).num_params - shape().num_params == difference


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"sliding_window": 512}, (0, 0, 0)),  # llama has none, whatever its file says
        ({"model_type": "mistral", "sliding_window": 512}, (512, 512, 512)),
        ({"model_type": "mistral", "sliding_window": None}, (0, 0, 0)),
        ({"model_type": "gemma2", "sliding_window": 512}, (512, 0, 512)),
        (
            {"model_type": "gemma3_text", "sliding_window": 512, "sliding_window_pattern": 3},
            (512, 512, 0),
        ),
        ({"model_type": "qwen2", "sliding_window": 512, "max_window_layers": 1}, (0, 0, 0)),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 512,
                "max_window_layers": 1,
                "use_sliding_window": True,
            },
            (0, 512, 512),
        ),
        (
            {
                "model_type": "qwen3",
                "sliding_window": 512,
                "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            },
            (512, 0, 0),
        ),
    ],
)
def test_layers_with_windows(changes: dict[str, Any], windows: tuple[int, ...]) -> None:
    assert shape(**changes).windows == windows


REFUSED = [
    ({"model_type": "deepseek_v3", "kv_lora_rank": 512}, "its attention is latent (MLA)"),
    ({"model_type": "gemma3", "text_config": {}}, "parts beside a text decoder (`text_config`)"),
    ({"model_type": "falcon_h1"}, "`model_type` is 'falcon_h1'"),
    ({"model_type": None}, "`model_type` is None"),
    ({"model_type": "qwen3", "layer_types": ["linear_attention"] * 3}, "has 'linear_attention'"),
    ({"model_type": "qwen3", "layer_types": ["full_attention"]}, "an entry for each layer"),
    ({"hidden_size": "64"}, "Expected `int`, got `str` - at `$.hidden_size`"),
    ({"num_attention_heads": 0}, "`num_attention_heads` is less than 1"),
    ({"num_attention_heads": 4096}, "its heads would be 0 numbers wide"),
    ({"num_hidden_layers": 1 << 62}, "`num_hidden_layers` is 4611686018427387904"),
    ({"model_type": "mixtral", "num_local_experts": 8}, "`num_experts_per_tok` does not fit"),
    (
        {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2}
        | {"mlp_only_layers": [0]},
        "only some of its layers have experts",
    ),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED)
def test_what_would_be_a_guess_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SetupError) as caught:
        shape(**changes)
    assert str(caught.value).startswith("--model: tiny cannot be planned: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "max_position_embeddings"])
def test_a_missing_key_is_named(key: str) -> None:
    config = {name: value for name, value in TINY.items() if name != key}
    with pytest.raises(SetupError, match=f"missing required field `{key}`"):
        shape_of_config(config, "tiny")


@given(st.integers(1, 256), st.integers(1, 300))
def test_a_batch_needs_more_experts_and_never_more_than_all(used: int, batch: int) -> None:
    found = shape(model_type="mixtral", num_local_experts=256, num_experts_per_tok=used)
    assert found.expert_share(1) == pytest.approx(used / 256)
    assert found.expert_share(batch) <= found.expert_share(batch + 1) <= 1


def test_a_gguf_file_is_counted_by_its_tensors(tiny_model_path: Path) -> None:
    file = read_gguf(tiny_model_path)
    found = shape_of_gguf(file, "tiny")
    assert found.num_params == sum(t.num_bytes for t in file.tensors) // 4
    same = shape(num_hidden_layers=2, vocab_size=found.vocab_size)
    for field in ("embedding_params", "lm_head_params", "linear_params", "kv_width", "head_dim"):
        assert getattr(found, field) == getattr(same, field), field
    assert (found.windows, found.max_model_len) == ((0, 0), 2048)
    assert found.linear_inputs == (64, 64, 128)


def test_a_gguf_file_with_windows(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "windows.gguf", window=64)
    found = shape_of_gguf(read_gguf(path), "windows")
    assert found.windows == (64, 0) * 13
    assert found.lm_head_params == 0


def write_header(path: Path, architecture: str, **numbers: int) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in numbers.items():
        writer.add_uint32(f"{architecture}.{key.replace('__', '.')}", value)
    write_out(writer)
    return path


@pytest.mark.parametrize(
    ("architecture", "numbers", "reason"),
    [
        ("deepseek2", {"attention__kv_lora_rank": 512}, "latent (MLA)"),
        ("jamba", {"ssm__state_size": 16}, "hybrid"),
        ("bert", {}, "its architecture is 'bert'"),
        ("llama", {}, "no `llama.attention.head_count`"),
    ],
)
def test_a_gguf_file_of_another_kind_is_refused(
    tmp_path: Path, architecture: str, numbers: dict[str, int], reason: str
) -> None:
    path = write_header(tmp_path / "other.gguf", architecture, **numbers)
    with pytest.raises(SetupError) as caught:
        shape_of_gguf(read_gguf(path), "other")
    assert reason in str(caught.value)


def test_a_damaged_count_of_layers_costs_nothing(tmp_path: Path) -> None:
    sizes = {"attention__head_count": 1, "embedding_length": 8, "feed_forward_length": 8}
    path = write_header(tmp_path / "m.gguf", "llama", **sizes, block_count=0xFFFF_FFFF)
    with pytest.raises(SetupError, match=r"`llama\.block_count` is 4294967295"):
        shape_of_gguf(read_gguf(path), "m")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("attention.head_count", 1 << 30, "its heads would be 0 numbers wide"),
        ("attention.sliding_window", -1, "its sliding window is less than 0 tokens"),
    ],
)
def test_attention_that_cannot_be(tmp_path: Path, key: str, value: int, reason: str) -> None:
    file = read_gguf(write_tiny_model(tmp_path / "m.gguf", window=64))
    no_length = {f"gemma2.{name}": 0 for name in ("attention.key_length", "attention.value_length")}
    metadata = file.metadata | no_length | {f"gemma2.{key}": value}
    with pytest.raises(SetupError, match=reason):
        shape_of_gguf(msgspec.structs.replace(file, metadata=metadata), "m")


def compressed(kind: str, num_bits: int, strategy: str, inputs: Any = None) -> dict[str, Any]:
    weights = {"type": kind, "num_bits": num_bits, "strategy": strategy}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("quantization", "sidecar", "stored"),
    [
        (None, None, ("bf16", "bf16")),
        (None, {"quant_algo": "W4A16_AWQ"}, ("W4A16_AWQ", "int4_awq")),
        (None, {"quant_algo": "FP8"}, ("FP8", "fp8")),
        (None, {"quant_algo": None}, ("bf16", "bf16")),
        (None, {"quant_algo": "MIXED_PRECISION"}, ("MIXED_PRECISION", None)),
        ({"quant_method": "gptq"}, None, ("gptq", None)),
        ({"quant_method": "mxfp4"}, None, ("mxfp4", "mxfp4")),
        ({"quant_method": "mxfp8"}, None, ("mxfp8", "mxfp8")),
        ({"quant_method": "nvfp4"}, None, ("nvfp4", "nvfp4")),
        ({"quant_method": "fp8"}, None, ("fp8", "fp8")),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, None, ("fp8", "fp8_block")),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, None, ("NVFP4", "nvfp4")),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4_SVD"}, None, ("NVFP4_SVD", None)),
        (compressed("float", 8, "channel"), None, ("compressed-tensors", "fp8")),
        (compressed("float", 8, "block"), None, ("compressed-tensors", "fp8_block")),
        (None, {"quant_algo": "W4A16_NVFP4"}, ("W4A16_NVFP4", "w4a16_nvfp4")),
        (
            compressed("float", 4, "tensor_group", {"num_bits": 4}),
            None,
            ("compressed-tensors", "nvfp4"),
        ),
        (compressed("float", 4, "tensor_group"), None, ("compressed-tensors", "w4a16_nvfp4")),
        (compressed("float", 4, "group"), None, ("compressed-tensors", "w4a16_nvfp4")),
        (compressed("int", 4, "group"), None, ("compressed-tensors", None)),
        ({"quant_method": "compressed-tensors"}, None, ("compressed-tensors", None)),
    ],
)
def test_a_folder_says_how_its_weights_are_stored(
    tmp_path: Path, quantization: Any, sidecar: Any, stored: tuple[str, Any]
) -> None:
    folder = write_shape_folder(tmp_path / "tiny", quantization=quantization, sidecar=sidecar)
    found = find_planned_model(str(folder), ModelStore(tmp_path))
    assert found.shape == shape()
    assert found.stored == StoredWeights(1000, *stored)


def test_a_folder_without_weights_has_only_a_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    assert find_planned_model(str(tmp_path), ModelStore(tmp_path)).stored is None


def test_a_file_is_planned_by_its_path(tiny_model_path: Path, tmp_path: Path) -> None:
    found = find_planned_model(str(tiny_model_path), ModelStore(tmp_path))
    assert found.stored is not None
    assert (found.shape.name, found.stored.format, found.stored.precision) == ("tiny", "gguf", None)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"config\.json is not a JSON object"):
        find_planned_model(str(tmp_path), ModelStore(tmp_path))


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"config\.json cannot be read"):
        find_planned_model(str(tmp_path), ModelStore(tmp_path))


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        find_planned_model("Qwen/Qwen3-8", ModelStore(tmp_path))
    assert "Did you mean qwen3-8b?" in str(caught.value)
    for name in (*KNOWN_CONFIGS, *(entry.name for entry in shipped_catalogue())):
        assert name in str(caught.value)


def test_names_are_found_in_any_case(tmp_path: Path) -> None:
    assert find_planned_model("Qwen3-8B", ModelStore(tmp_path)).shape.name == "qwen3-8b"
