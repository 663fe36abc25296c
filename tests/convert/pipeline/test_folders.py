"""Hugging Face folders as sources: plain ones in every precision, and damaged ones."""

import json
import struct
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert.__main__ import main
from convert.checks.decoding import decoded_weights
from convert.checks.verify import Target, verify_against
from convert.pipeline.plan import Options, make_plan
from convert.target.recipe import Recipe, Rule, make_recipe
from runtime.errors import ModelFileError, SetupError
from runtime.tokenizers.load import load_tokenizer
from tests.kit.models.conversion import converted
from tests.kit.models.packed_folders import (
    CLASSES,
    make_weights,
    plain,
    plain_source,
    write_checkpoint,
    write_tensors,
)
from tests.kit.models.tiny_checkpoints import WITH_EXPERTS

run = partial(converted, release="1.3")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("architecture", CLASSES)
@pytest.mark.parametrize("num_files", [1, 3])
def test_the_weights_stay_what_they_are(architecture: str, num_files: int, tmp_path: Path) -> None:
    weights = make_weights(architecture)
    source = write_checkpoint(
        tmp_path / "source", architecture, plain(weights), num_files=num_files
    )
    target = run(source, tmp_path / "target")
    written = dict(decoded_weights(Target(target)))

    assert written.keys() == weights.keys()
    for name, values in weights.items():
        np.testing.assert_array_equal(written[name], values, err_msg=name)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_every_type_is_read(kind: str, tmp_path: Path) -> None:
    weights = make_weights("llama")
    source = write_checkpoint(tmp_path / "source", "llama", plain(weights, kind))
    written = dict(decoded_weights(Target(run(source, tmp_path / "target", "fp16"))))

    for name, values in weights.items():
        expected = values.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(written[name], expected, err_msg=name)


@pytest.mark.parametrize(
    ("architecture", "precision"),
    [
        *(("llama", precision) for precision in ("fp8", "int8", "int4-rtn")),
        ("gemma3", "fp8"),
        pytest.param("gemma3", "int4-awq", marks=pytest.mark.slow),
        ("phi3", "fp8"),
        ("qwen2", "int4-rtn"),
        *((architecture, "int8") for architecture in WITH_EXPERTS),
    ],
)
def test_every_precision(architecture: str, precision: str, tmp_path: Path) -> None:
    source = plain_source(tmp_path, architecture, num_files=2)
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog, again. " * 30)
    target = run(source, tmp_path / "target", precision, calibration=str(text))
    tensors = list(verify_against(target, source))

    assert tensors
    assert all(tensor.passed for tensor in tensors)


def test_small_files_are_copied(tmp_path: Path) -> None:
    source = plain_source(
        tmp_path,
        "llama",
        config={"rope_scaling": {"rope_type": "llama3", "factor": 8.0}, "mine": [1, 2]},
    )
    (source / "chat_template.jinja").write_text("{{ messages }}")
    target = run(source, tmp_path / "target", "fp16")
    before, after = read_json(source / "config.json"), read_json(target / "config.json")

    assert after == {**before, "torch_dtype": "float16"}
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
    ):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    text = "the quick brown fox"
    ids = load_tokenizer(target).encode(text, add_special=True, parse_special=True)
    assert ids == load_tokenizer(source).encode(text, add_special=True, parse_special=True)


def test_the_manifest_names_all_files(tmp_path: Path) -> None:
    source = plain_source(tmp_path, "qwen3", num_files=2)
    manifest = Target(run(source, tmp_path / "target")).manifest

    assert {file.name for file in manifest.sources} == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "config.json",
        "generation_config.json",
    }
    assert manifest.architecture == "qwen3"


@pytest.mark.parametrize("tied", [True, False, None])
def test_the_output_layer(tied: bool | None, tmp_path: Path) -> None:
    """A tied model may carry a copy of its embedding; nobody reads it."""
    weights = make_weights("llama")
    source = write_checkpoint(
        tmp_path / "source", "llama", plain(weights), config={"tie_word_embeddings": tied}
    )
    written = {record.name for record in Target(run(source, tmp_path / "t")).manifest.tensors}

    assert ("lm_head.weight" in written) == (not tied)


def test_buffers_of_old_checkpoints_are_left_out(tmp_path: Path) -> None:
    weights = make_weights("llama")
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(16, np.float32)}
    source = write_checkpoint(tmp_path / "source", "llama", plain(weights | buffer))

    assert dict(decoded_weights(Target(run(source, tmp_path / "t")))).keys() == weights.keys()


def test_inspect_run_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = plain_source(tmp_path, "qwen3", num_files=2)
    target = tmp_path / "target"

    assert main(["inspect", str(source), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["convertible"] == ""
    assert found["num_files"] == 2
    assert found["mix"].keys() == {"BF16"}
    assert main(["run", str(source), str(target), "--precision", "fp8"]) == 0
    assert main(["verify", str(target), "--against", str(source)]) == 0
    assert ", 0 out of bounds" in capsys.readouterr().out
    assert main(["inspect", str(target), "--json"]) == 0
    assert "FP8 already" in json.loads(capsys.readouterr().out)["convertible"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, r"config\.json: `architectures` is 'Mamba"),
        ({"architectures": None}, r"config\.json: `architectures` is missing"),
        ({"model_type": "gemma"}, r"config\.json: `model_type` is 'gemma'"),
        ({"hidden_size": None}, r"config\.json: `hidden_size` is None"),
        ({"hidden_size": -5}, r"config\.json: `hidden_size` is -5"),
        ({"hidden_size": 64}, r"its shape is .* and should be"),
        ({"vocab_size": 3}, r"its shape is .* and should be \(3, 128\)"),
        ({"num_hidden_layers": 1 << 30}, r"`num_hidden_layers` is 1073741824, which"),
        ({"num_hidden_layers": 3}, r"`model\.layers\.2\..*` is missing"),
        ({"num_hidden_layers": 1}, r"model\.layers\.1\..* has no such tensor"),
        ({"rms_norm_eps": "small"}, r"`rms_norm_eps` is 'small'"),
        ({"quantization_config": {"quant_method": "quanto"}}, r"`quant_method` is 'quanto'"),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8 already.*no conversion is needed"),
        ({"quantization_config": 7}, r"config\.json: Expected `object`"),
    ],
)
def test_a_configuration_that_does_not_fit(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = plain_source(tmp_path, "llama", config=config)

    with pytest.raises(ModelFileError, match=message):
        run(source, tmp_path / "target")
    assert not list(tmp_path.glob("target*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lm_head.weight": "../elsewhere.safetensors"}, "'../elsewhere.safetensors' is not the"),
        ({"lm_head.weight": "/etc/passwd"}, "'/etc/passwd' is not the name"),
        ({"lm_head.weight": "config.json"}, "'config.json' is not the name"),
        ({"lm_head.weight": "no.safetensors"}, r"the file 'no\.safetensors' is missing"),
        ({"odd.weight": "model-00001-of-00002.safetensors"}, r"`odd\.weight` is not in model-"),
        ({f"{n}": f"{n}.safetensors" for n in range(1001)}, "names 1003 files"),
        ({"lm_head.weight": 3}, "Expected `str`, got `int`"),
    ],
)
def test_an_index_that_lies(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = plain_source(tmp_path, "llama", num_files=2)
    path = source / "model.safetensors.index.json"
    index = read_json(path)
    path.write_text(json.dumps({"weight_map": index["weight_map"] | change}))

    with pytest.raises(ModelFileError, match=message) as caught:
        run(source, tmp_path / "target")
    assert "model.safetensors.index.json" in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("qwen3moe", {"num_experts": None}, r"`num_experts` is None and should be"),
        ("qwen3moe", {"num_experts": 3}, r"gate\.weight: .*should be \(3, 128\)"),
        (
            "qwen3moe",
            {"num_experts": 5},
            r"gate\.weight: its shape is \(4, 128\) and should be \(5",
        ),
        ("qwen3moe", {"num_experts": 1 << 30}, r"`num_experts` is 1073741824, which the files"),
        ("qwen3moe", {"num_experts_per_tok": 5}, r"`num_experts_per_tok` is 5, and there are 4"),
        ("qwen3moe", {"num_experts_per_tok": "2"}, r"`num_experts_per_tok` is '2'"),
        ("qwen3moe", {"moe_intermediate_size": None}, r"`moe_intermediate_size` is None"),
        ("qwen3moe", {"moe_intermediate_size": 96}, r"experts\.\d\..*its shape is .* should be"),
        ("qwen3moe", {"decoder_sparse_step": 2}, r"`decoder_sparse_step` is 2; known are"),
        ("qwen3moe", {"mlp_only_layers": [1]}, r"`mlp_only_layers` is \[1\]; known are"),
        ("mixtral", {"num_local_experts": None}, r"`num_local_experts` is None"),
        ("mixtral", {"num_local_experts": 0}, r"`num_local_experts` is 0"),
    ],
)
def test_a_mixture_that_does_not_fit(
    architecture: str, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = plain_source(tmp_path, architecture, config=config)

    with pytest.raises(ModelFileError, match=message):
        run(source, tmp_path / "target")
    assert not list(tmp_path.glob("target*"))


@pytest.mark.parametrize("number", ["4", "01", "x", "-1"])
def test_a_mixture_with_one_expert_more(number: str, tmp_path: Path) -> None:
    stored = plain(make_weights("mixtral"))
    more = f"model.layers.0.block_sparse_moe.experts.{number}.w1.weight"
    stored[more] = stored["model.layers.0.block_sparse_moe.experts.0.w1.weight"]
    source = write_checkpoint(tmp_path / "source", "mixtral", stored)

    with pytest.raises(ModelFileError, match=f"{more}: a MixtralForCausalLM has no such tensor"):
        run(source, tmp_path / "target")


@pytest.mark.parametrize("architecture", WITH_EXPERTS)
def test_a_mixture_without_one_of_its_experts(architecture: str, tmp_path: Path) -> None:
    stored = plain(make_weights(architecture))
    missing = max(name for name in stored if ".experts.2." in name)
    del stored[missing]
    source = write_checkpoint(tmp_path / "source", architecture, stored)

    with pytest.raises(ModelFileError, match=f"`{missing}` is missing"):
        run(source, tmp_path / "target")


@pytest.mark.parametrize("architecture", WITH_EXPERTS)
@pytest.mark.parametrize("precision", ["fp8", "int4-rtn", "int4-awq"])
def test_experts_keep_their_type(architecture: str, precision: str, tmp_path: Path) -> None:
    source = plain_source(tmp_path, architecture, num_files=2)
    with pytest.raises(SetupError, match=f"precision {precision}: not possible for the experts"):
        run(source, tmp_path / "target", precision)
    kept = Recipe(precision=precision, rules=(Rule("*.experts.*", "keep"),))
    if precision == "int4-awq":
        with pytest.raises(SetupError, match="cannot be calibrated; known are"):
            run(source, tmp_path / "target", kept)
        return
    target = run(source, tmp_path / "target", kept)
    excluded = read_json(target / "hf_quant_config.json")["quantization"]["exclude_modules"]
    tensors = list(verify_against(target, source))

    assert "*.gate" in excluded
    assert {t.precision for t in tensors if ".experts." in t.name} == {"bfloat16"}
    assert {t.precision for t in tensors if "self_attn" in t.name} >= {precision}
    assert all(tensor.passed for tensor in tensors)


@pytest.mark.parametrize(
    ("architecture", "newer", "older"),
    [
        ("llama", {"rope_type": "default", "rope_theta": 5e5}, {"rope_theta": 5e5}),
        (
            "llama",
            {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5},
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        ),
        (
            "gemma3",
            {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
            {
                "rope_theta": 1e6,
                "rope_local_base_freq": 1e4,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            },
        ),
        (
            "phi3",
            {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": 4096,
                "long_factor": [1.0],
                "short_factor": [2.0],
            },
            {
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": 4096,
                "rope_scaling": {
                    "type": "longrope",
                    "long_factor": [1.0],
                    "short_factor": [2.0],
                },
            },
        ),
        ("llama", None, {}),
        ("llama", "yarn", {}),
    ],
)
def test_older_names_are_written_too(
    architecture: str, newer: Any, older: dict[str, Any], tmp_path: Path
) -> None:
    """transformers 4 does not read what transformers 5 writes, and takes its defaults."""
    config = {"rope_parameters": newer, "rope_theta": None}
    source = plain_source(tmp_path, architecture, config=config)
    before = read_json(source / "config.json")
    del before["rope_theta"]
    (source / "config.json").write_text(json.dumps(before), encoding="utf-8")
    after = read_json(run(source, tmp_path / "target") / "config.json")

    assert after == {**before, **older, "torch_dtype": "bfloat16"}


def test_experts_counted_in_newer_words(tmp_path: Path) -> None:
    source = plain_source(tmp_path, "qwen3moe", config={"num_local_experts": 4})
    config = read_json(source / "config.json")
    del config["num_experts"]
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    written = read_json(run(source, tmp_path / "target") / "config.json")

    assert written["num_experts"] == written["num_local_experts"] == 4


def test_files_without_an_index(tmp_path: Path) -> None:
    source = plain_source(tmp_path, "llama", num_files=2)
    (source / "model.safetensors.index.json").unlink()

    with pytest.raises(ModelFileError, match="2 safetensors files and no model"):
        run(source, tmp_path / "target")


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    stored = plain(make_weights("llama"))
    source = write_checkpoint(tmp_path / "source", "llama", stored, num_files=2)
    write_tensors(source / "model-00002-of-00002.safetensors", stored)

    with pytest.raises(ModelFileError, match="is in two files of the model"):
        run(source, tmp_path / "target")


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    source = plain_source(tmp_path)
    (source / "tokenizer.json").unlink()

    with pytest.raises(SetupError, match=r"source: there is no tokenizer\.json"):
        run(source, tmp_path / "target")


GOOD = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (GOOD | {"dtype": "F64"}, "a: the type 'F64' is not known"),
        (GOOD | {"dtype": 7}, "header is damaged"),
        (GOOD | {"shape": [2, 3]}, "a: its size is not what its shape says"),
        (GOOD | {"shape": [-2, -2]}, "a: its size"),
        (GOOD | {"shape": [1 << 62, 1 << 62]}, "a: its size"),
        (GOOD | {"shape": [1] * 100_000}, "a: its shape has 100000 dimensions"),
        (GOOD | {"data_offsets": [-16, 0]}, "a: its size"),
        (GOOD | {"data_offsets": [16, 32]}, "a: its data end outside the file"),
        (GOOD | {"data_offsets": [8, 24]}, "a: its data end outside the file"),
        (GOOD | {"data_offsets": [0]}, "header is damaged"),
        ({}, "the type '' is not known"),
        ("nothing", "header is damaged"),
    ],
)
def test_a_header_that_lies(entry: Any, message: str, tmp_path: Path) -> None:
    source = plain_source(tmp_path)
    write_raw(source / "model.safetensors", json.dumps({"a": entry}).encode(), bytes(16))

    with pytest.raises(ModelFileError, match=message) as caught:
        run(source, tmp_path / "target")
    assert "model.safetensors" in str(caught.value)


def test_tensors_that_overlap(tmp_path: Path) -> None:
    source = plain_source(tmp_path)
    other = GOOD | {"data_offsets": [8, 24]}
    write_raw(source / "model.safetensors", json.dumps({"b": other, "a": GOOD}).encode(), bytes(24))

    with pytest.raises(ModelFileError, match=r"model\.safetensors: b: its data overlap .*`a`"):
        run(source, tmp_path / "target")


@pytest.mark.parametrize("length", [17, 1 << 24, 1 << 40, (1 << 64) - 1])
def test_a_header_longer_than_its_file(length: int, tmp_path: Path) -> None:
    source = plain_source(tmp_path)
    (source / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}" + bytes(14))

    with pytest.raises(ModelFileError, match="the header is longer than the file"):
        run(source, tmp_path / "target")


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    weights = make_weights("llama")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = np.inf
    source = write_checkpoint(tmp_path / "source", "llama", plain(weights))

    with pytest.raises(ModelFileError, match=r"layers\.1\.mlp\.up_proj\.weight: .*not finite"):
        run(source, tmp_path / "target")


def test_a_file_that_has_become_shorter(tmp_path: Path) -> None:
    source = plain_source(tmp_path)
    plan = make_plan(source, make_recipe("bf16"), Options())
    path = source / "model.safetensors"
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)

    last = max(plan.source.tensors.values(), key=lambda tensor: tensor.offset)
    with (
        plan.source.open_tensor(last.name) as reader,
        pytest.raises(ModelFileError, match="the file ends inside it"),
    ):
        reader.read(0, last.num_rows)


def write_raw(path: Path, header: bytes, data: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("small") / "model"
    write_checkpoint(folder, "qwen3", plain(make_weights("qwen3")))
    return folder, (folder / "model.safetensors").read_bytes()


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_is_an_error_of_ours(small: tuple[Path, bytes], data: st.DataObject) -> None:
    """Bytes of the header are overwritten; planning survives or explains."""
    folder, whole = small
    damaged = bytearray(whole)
    length = 8 + int.from_bytes(whole[:8], "little")
    for position in data.draw(st.lists(st.integers(0, length), min_size=1, max_size=4)):
        damaged[position] = data.draw(
            st.one_of(st.integers(0, 255), st.sampled_from(b'0129"[]{},'))
        )
    end = data.draw(st.sampled_from([len(damaged), length, length // 2]))
    (folder / "model.safetensors").write_bytes(damaged[:end])

    with suppress(SetupError):
        make_plan(folder, make_recipe("int4-rtn"), Options())  # must not raise anything else
