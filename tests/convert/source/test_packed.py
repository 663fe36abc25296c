"""AWQ's and GPTQ's integers: what they mean, and that int4 takes their levels over."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from convert.__main__ import main
from convert.checks.decoding import decoded_weights
from convert.checks.verify import Target, verify_against
from convert.source.folder import FolderSource, open_folder
from convert.source.packing import PackedTensor, Packing
from convert.target.recipe import Recipe, Rule
from runtime.errors import ModelFileError, SetupError
from tests.kit.models.conversion import converted
from tests.kit.models.packed_folders import (
    Quantized,
    Stored,
    awq_config,
    gptq_config,
    make_weights,
    quantize,
    write_checkpoint,
)
from tests.kit.models.tiny_checkpoints import WITH_EXPERTS

METHODS = ("awq", "gptq", "gptq_v2")


def run(source: Path, target: Path, recipe: Recipe | str = "int4-rtn", **options: Any) -> Path:
    return converted(source, target, recipe, **{"dtype": "float16", **options})


def config_of(method: str, **changes: Any) -> dict[str, Any]:
    if method == "awq":
        return awq_config(**changes)
    form = {"checkpoint_format": "gptq_v2"} if method == "gptq_v2" else {}
    return gptq_config(**form, **changes)


def make_source(
    folder: Path, method: str, architecture: str = "llama", *, group_size: int = 128, **options: Any
) -> tuple[Path, dict[str, Quantized]]:
    """A folder of random integers, and these by the names of the weights."""
    stored, made = quantize(
        make_weights(architecture),
        method.removesuffix("_v2"),
        v2=method == "gptq_v2",
        group_size=group_size,
        **options,
    )
    config = config_of(method, group_size=group_size)
    return write_checkpoint(folder / "source", architecture, stored, config=config), made


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(METHODS),
    num_outputs=st.integers(1, 4).map(lambda n: 8 * n),
    num_inputs=st.integers(1, 6).map(lambda n: 8 * n),
    group_size=st.sampled_from([8, 16, 32, -1]),
    act_order=st.booleans(),
    bits=st.sampled_from([4, 8]),
    seed=st.integers(0, 1 << 32),
    data=st.data(),
)
def test_integers_mean_what_they_were_made_from(
    method: str,
    num_outputs: int,
    num_inputs: int,
    group_size: int,
    act_order: bool,
    bits: int,
    seed: int,
    data: st.DataObject,
) -> None:
    """Any block of outputs is exact, wherever it begins and ends."""
    quantized = Quantized(
        (num_outputs, num_inputs),
        num_inputs if group_size == -1 else group_size,
        symmetric=False,
        act_order=act_order and method != "awq",
        bits=4 if method == "awq" else bits,
        seed=seed,
    )
    packed = load(quantized, method, group_size)
    start = data.draw(st.integers(0, num_outputs - 1))
    stop = data.draw(st.integers(start + 1, num_outputs))

    np.testing.assert_array_equal(packed.rows(start, stop), quantized.values[start:stop])
    assert packed.num_uneven_zeros() == np.count_nonzero(quantized.zeros != 1 << quantized.bits - 1)


def load(quantized: Quantized, method: str, group_size: int) -> PackedTensor:
    stored = quantized.awq("m") if method == "awq" else quantized.gptq("m", v2=method == "gptq_v2")
    kind = "awq" if method == "awq" else "gptq"
    return PackedTensor(
        packing=Packing(kind, group_size, zero_offset=int(method == "gptq"), bits=quantized.bits),
        qweight=stored["m.qweight"][1].view(np.uint32),
        qzeros=stored["m.qzeros"][1].view(np.uint32),
        scales=stored["m.scales"][1].astype(np.float32),
        groups=quantized.groups,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3", *WITH_EXPERTS])
def test_decoded_to_plain_weights(method: str, architecture: str, tmp_path: Path) -> None:
    options = {"act_order": True} if method == "gptq" else {}
    source, made = make_source(
        tmp_path, method, architecture, symmetric=False, group_size=32, **options
    )
    target = run(source, tmp_path / "target", "fp16")
    written = dict(decoded_weights(Target(target)))

    for name, quantized in made.items():
        expected = quantized.values.astype(np.float16)
        np.testing.assert_array_equal(written[name], expected, err_msg=name)
    assert "quantization_config" not in json.loads((target / "config.json").read_text())
    assert all(tensor.passed for tensor in verify_against(target, source))


@pytest.mark.parametrize(
    ("architecture", "precision"),
    [
        *(("llama", precision) for precision in ("bf16", "fp8", "int8")),
        *((architecture, "int8") for architecture in WITH_EXPERTS),
    ],
)
def test_decoded_to_other_precisions(architecture: str, precision: str, tmp_path: Path) -> None:
    source, _ = make_source(tmp_path, "awq", architecture, symmetric=False, group_size=64)
    target = run(source, tmp_path / "target", precision, dtype=None)

    assert all(tensor.passed for tensor in verify_against(target, source))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("group_size", [128, -1])
@pytest.mark.parametrize("precision", ["int4-rtn", "int4-awq"])
def test_levels_are_kept_bit_for_bit(
    method: str, group_size: int, precision: str, tmp_path: Path
) -> None:
    """Read with nothing of ours: the same levels less 8, the same steps, ones for the inputs."""
    make = one_group_each if group_size == -1 else make_source
    source, made = make(tmp_path, method)
    target = run(source, tmp_path / "target", precision)

    with safe_open(target / "model.safetensors", framework="numpy") as file:
        for name, quantized in made.items():
            packed = file.get_tensor(name)
            levels = np.empty(quantized.levels.shape, dtype=np.int64)
            levels[0::2], levels[1::2] = packed & 15, packed >> 4
            levels = np.where(levels > 7, levels - 16, levels)
            np.testing.assert_array_equal(levels, quantized.levels - 8, err_msg=name)
            steps = file.get_tensor(name.replace(".weight", ".weight_scale"))
            each = quantized.scales[quantized.groups[::128]].T
            np.testing.assert_array_equal(steps, each.astype(np.float32), err_msg=name)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                scale = file.get_tensor(name.replace(".weight", ".pre_quant_scale"))
                assert (scale == 1).all()
    assert all(tensor.difference.error < 1e-6 for tensor in verify_against(target, source))


def one_group_each(folder: Path, method: str) -> tuple[Path, dict[str, Quantized]]:
    """One group for all inputs, 128 or 256 of them."""
    stored: Stored = {}
    plain_part, made = quantize(make_weights("llama"), method.removesuffix("_v2"))
    for name in made:
        module = name.removesuffix(".weight")
        shape = made[name].levels.shape
        made[name] = Quantized((shape[0], shape[1]), shape[1])
        quantized = made[name]
        stored |= (
            quantized.awq(module)
            if method == "awq"
            else quantized.gptq(module, v2=method == "gptq_v2")
        )
    whole = write_checkpoint(
        folder / "whole", "llama", plain_part | stored, config=config_of(method, group_size=-1)
    )
    return whole, made


@pytest.mark.parametrize("method", METHODS)
def test_steps_are_rounded_to_bfloat16_and_levels_stay(method: str, tmp_path: Path) -> None:
    source, made = make_source(tmp_path, method)
    target = run(source, tmp_path / "target", dtype="bfloat16")

    with safe_open(target / "model.safetensors", framework="numpy") as file:
        for name, quantized in made.items():
            packed = file.get_tensor(name)
            np.testing.assert_array_equal((packed & 15) ^ 8, quantized.levels[0::2], err_msg=name)
            np.testing.assert_array_equal((packed >> 4) ^ 8, quantized.levels[1::2], err_msg=name)
    assert all(tensor.passed for tensor in verify_against(target, source))


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("awq", {"symmetric": False}, r"zero points are not 8"),
        ("gptq", {"symmetric": False}, r"zero points are not 8"),
        ("awq", {"group_size": 64}, r"groups are of 64 inputs, TensorRT-LLM's of 128"),
        ("gptq", {"act_order": True}, r"not of inputs in their order \(`g_idx`, desc_act\)"),
    ],
)
def test_levels_that_do_not_fit(
    method: str, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    source, _ = make_source(tmp_path, method, **options)

    with pytest.raises(SetupError, match=rf"_proj\.weight: its levels .*{reason}.*--requantize"):
        run(source, tmp_path / "target")
    assert not list(tmp_path.glob("target*"))
    target = run(source, tmp_path / "target", requantize=True)
    tensors = list(verify_against(target, source))
    assert {t.precision for t in tensors if "_proj" in t.name} == {"int4-rtn"}
    assert all(tensor.passed for tensor in tensors)
    assert any(tensor.difference.error > 0.01 for tensor in tensors)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["int4-rtn", "int4-awq"])
def test_experts_levels_cannot_be_kept(method: str, precision: str, tmp_path: Path) -> None:
    """Those of attention can, beside experts that are decoded."""
    source, made = make_source(tmp_path, method, "mixtral")
    with pytest.raises(SetupError, match=r"not possible for the experts.*`model\.layers\.0\."):
        run(source, tmp_path / "target", precision)
    recipe = Recipe(precision=precision, dtype="float16", rules=(Rule("*.experts.*", "keep"),))
    target = run(source, tmp_path / "target", recipe)
    precisions = {record.name: record.precision for record in Target(target).manifest.tensors}
    written = dict(decoded_weights(Target(target)))

    for name, quantized in made.items():
        decoded = ".experts." in name
        expected = quantized.values.astype(np.float16) if decoded else quantized.values
        np.testing.assert_array_equal(written[name], expected, err_msg=name)
        assert precisions[name] == ("float16" if decoded else "int4-kept")
    assert all(tensor.passed for tensor in verify_against(target, source))


def test_a_recipe_keeps_some_and_decodes_others(tmp_path: Path) -> None:
    source, made = make_source(tmp_path, "gptq")
    rules = (Rule("*.0.mlp.*", "keep"), Rule("*.self_attn.*", "fp8"))
    recipe = Recipe(precision="int4-rtn", dtype="float16", rules=rules)
    target = run(source, tmp_path / "target", recipe)
    precisions = {record.name: record.precision for record in Target(target).manifest.tensors}
    layers = json.loads((target / "quant_cfg.json").read_text())["quantized_layers"]

    assert precisions["model.layers.1.mlp.up_proj.weight"] == "int4-kept"
    assert precisions["model.layers.0.mlp.up_proj.weight"] == "float16"
    assert precisions["model.layers.1.self_attn.o_proj.weight"] == "fp8"
    assert layers["model.layers.1.mlp.up_proj"]["quant_algo"] == "W4A16_AWQ"
    assert len(made) == sum("_proj" in name for name in precisions)


def test_packed_phi3_cannot_be_int4(tmp_path: Path) -> None:
    source, _ = make_source(tmp_path, "gptq", "phi3")

    with pytest.raises(SetupError, match="not possible for phi3"):
        run(source, tmp_path / "target")


def test_what_the_command_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --dtype the steps' own type is taken, so that nothing is lost."""
    source, made = make_source(tmp_path, "awq")
    target = tmp_path / "target"

    assert main(["inspect", str(source), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["convertible"] == ""
    assert found["mix"].keys() == {"AWQ", "F16"}
    assert main(["run", str(source), str(target), "--precision", "int4-awq"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "levels kept" in line]
    assert len(lines) == len(made)
    assert lines[0].startswith("model.layers.0.mlp.down_proj.weight: AWQ, levels kept, relative er")
    assert json.loads((target / "config.json").read_text())["torch_dtype"] == "float16"
    requantized = tmp_path / "again"
    options = ["--precision", "int4-rtn", "--requantize"]
    assert main(["run", str(source), str(requantized), *options]) == 0
    assert "down_proj.weight: AWQ, decoded, int4-rtn, relative error" in capsys.readouterr().err
    assert main(["run", str(requantized), str(tmp_path / "third"), "--precision", "fp8"]) == 2
    assert "W4A16_AWQ already" in capsys.readouterr().err


def test_gemma_stays_in_bfloat16(tmp_path: Path) -> None:
    """Its activations are too large for float16; only the steps are rounded."""
    source, _ = make_source(tmp_path, "awq", "gemma3")
    target = tmp_path / "target"

    assert main(["run", str(source), str(target), "--precision", "int4-rtn"]) == 0
    assert json.loads((target / "config.json").read_text())["torch_dtype"] == "bfloat16"
    precisions = {record.precision for record in Target(target).manifest.tensors}
    assert precisions == {"int4-kept", "bfloat16"}
    assert main(["verify", str(target), "--against", str(source)]) == 0


def test_requantize_without_integers(tmp_path: Path) -> None:
    stored = {name: ("F16", v.astype(np.float16)) for name, v in make_weights("llama").items()}
    source = write_checkpoint(tmp_path / "source", "llama", stored)

    with pytest.raises(SetupError, match="--requantize is for sources that AWQ or GPTQ"):
        run(source, tmp_path / "target", requantize=True)


def test_empty_biases_are_left_out_and_others_are_not(tmp_path: Path) -> None:
    """AutoGPTQ writes a bias of zeros beside every packed layer."""
    stored, _ = quantize(make_weights("llama"), "gptq")
    name = "model.layers.0.mlp.down_proj.bias"
    zeros = {name: ("F16", np.zeros(128, np.float16))}
    source = write_checkpoint(tmp_path / "a", "llama", stored | zeros, config=gptq_config())

    assert name not in dict(decoded_weights(Target(run(source, tmp_path / "target"))))
    ones = {name: ("F16", np.ones(128, np.float16))}
    source = write_checkpoint(tmp_path / "b", "llama", stored | ones, config=gptq_config())
    with pytest.raises(ModelFileError, match=r"down_proj\.bias: a LlamaForCausalLM has no such"):
        run(source, tmp_path / "other")


@pytest.mark.parametrize("v2", [False, True])
def test_eight_bits(v2: bool, tmp_path: Path) -> None:
    """GPTQ's are decoded; int4 would have to round them."""
    stored, made = quantize(make_weights("llama"), "gptq", v2=v2, bits=8, group_size=32)
    form = {"checkpoint_format": "gptq_v2"} if v2 else {}
    config = gptq_config(bits=8, group_size=32, **form)
    source = write_checkpoint(tmp_path / "source", "llama", stored, config=config)
    written = dict(decoded_weights(Target(run(source, tmp_path / "target", "fp16"))))

    for name, quantized in made.items():
        np.testing.assert_array_equal(written[name], quantized.values.astype(np.float16))
    with pytest.raises(SetupError, match="cannot be kept: its levels have 8 bits, TensorRT-LLM's"):
        run(source, tmp_path / "int4")
    assert run(source, tmp_path / "int4", requantize=True).is_dir()


@pytest.mark.parametrize("asked_for", [False, True])
def test_biases_that_a_llama_may_have(asked_for: bool, tmp_path: Path) -> None:
    """Zeros are a bias only where config.json says that there is one."""
    stored, _ = quantize(make_weights("llama"), "gptq")
    rows = {"q_proj": 128, "k_proj": 64, "v_proj": 64, "o_proj": 128}
    biases = {
        f"model.layers.{layer}.self_attn.{name}.bias": ("F16", np.zeros(count, np.float16))
        for layer in range(2)
        for name, count in rows.items()
    }
    config = gptq_config() | {"attention_bias": asked_for}
    source = write_checkpoint(tmp_path / "source", "llama", stored | biases, config=config)
    written = dict(decoded_weights(Target(run(source, tmp_path / "target"))))

    assert biases.keys() & written.keys() == (biases.keys() if asked_for else set())


def test_a_zero_point_of_zero_has_borrowed() -> None:
    """GPTQModel takes 1 from all eight zero points of an integer at once."""
    quantized = Quantized((8, 8), 8)
    quantized.zeros = np.array([[5, 0, 0, 15, 1, 0, 8, 0]])
    stored = quantized.gptq("m")

    assert stored["m.qzeros"][1].view(np.uint32) == (0x0801F005 - 0x11111111) % (1 << 32)
    np.testing.assert_array_equal(load(quantized, "gptq", 8).rows(0, 8), quantized.values)


def test_the_older_file_of_autogptq(tmp_path: Path) -> None:
    stored, made = quantize(make_weights("llama"), "gptq")
    source = write_checkpoint(tmp_path / "source", "llama", stored)
    with pytest.raises(ModelFileError, match="`quantization_config` is missing, and the weights"):
        run(source, tmp_path / "target")
    (source / "quantize_config.json").write_text('{"bits": 4, "group_size": 128}')
    written = dict(decoded_weights(Target(run(source, tmp_path / "target"))))

    for name, quantized in made.items():
        np.testing.assert_array_equal(written[name], quantized.values, err_msg=name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (awq_config(bits=8), r"`bits` is 8"),
        (gptq_config(bits=3), r"`bits` is 3"),
        (awq_config(version="gemv"), r"`version` is 'gemv'"),
        (awq_config(group_size=0), r"`group_size` is 0"),
        (awq_config(group_size="all"), r"Expected `int \| null`"),
        (awq_config(quant_method="bitsandbytes"), r"`quant_method` is 'bitsandbytes'"),
        (awq_config(group_size=64), r"qzeros: its shape is \(1, 16\) and should be \(2, 16\)"),
        (gptq_config(checkpoint_format="marlin"), r"`checkpoint_format` is 'marlin'"),
        (gptq_config(dynamic={"+:mlp": {"bits": 8}}), r"`dynamic\['\+:mlp'\].bits` is 8"),
        (gptq_config(dynamic={"-:q": {}, "k": {"group_size": 32}}), r"\['k'\].group_size` is 32"),
        (gptq_config(is_marlin_format=True), r"`checkpoint_format` is 'marlin'"),
        (gptq_config(), r"its shape is .* and should be"),
    ],
)
def test_a_packing_that_is_not_known(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    stored, _ = quantize(make_weights("llama"), "awq")
    source = write_checkpoint(tmp_path / "source", "llama", stored, config=config)

    with pytest.raises(ModelFileError, match=message) as caught:
        run(source, tmp_path / "target", "fp16")
    assert "source" in str(caught.value)


MODULE = "model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qzeros": None}, r"`model\.layers\.1\.mlp\.up_proj\.qzeros` is missing"),
        ({"scales": None}, r"`model\.layers\.1\.mlp\.up_proj\.scales` is missing"),
        ({"qweight": None}, r"up_proj\.\w+: a LlamaForCausalLM has no such tensor"),
        ({"qweight": ("F32", np.zeros((16, 256), np.float32))}, "its type is F32 and should be"),
        ({"qweight": ("I32", np.zeros(16, np.int32))}, r"its shape is \(16,\)"),
        ({"qweight": ("I32", np.zeros((0, 256), np.int32))}, r"its shape is"),
        ({"scales": ("I32", np.zeros((1, 256), np.int32))}, "its type is I32 and should be F32"),
        ({"scales": ("F16", np.full((1, 256), np.nan, np.float16))}, "not finite"),
        ({"g_idx": ("I32", np.zeros(7, np.int32))}, r"g_idx: its shape is \(7,\)"),
        ({"g_idx": ("I32", np.full(128, 1, np.int32))}, r"g_idx: names a group beyond 0"),
        ({"g_idx": ("I32", np.full(128, -1, np.int32))}, r"g_idx: names a group beyond 0"),
        ({"weight": ("F16", np.zeros((256, 128), np.float16))}, "both packed and plain"),
    ],
)
def test_damaged_integers(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    stored, _ = quantize(make_weights("llama"), "gptq")
    for part, value in change.items():
        if value is None:
            del stored[f"{MODULE}.{part}"]
        else:
            stored[f"{MODULE}.{part}"] = value
    source = write_checkpoint(tmp_path / "source", "llama", stored, config=gptq_config())

    with pytest.raises(ModelFileError, match=message):
        run(source, tmp_path / "target", "fp16")


def test_groups_follow_in_order_without_g_idx(tmp_path: Path) -> None:
    stored, made = quantize(make_weights("llama"), "gptq")
    without = {name: value for name, value in stored.items() if not name.endswith(".g_idx")}
    source: FolderSource = open_folder(
        write_checkpoint(tmp_path / "source", "llama", without, config=gptq_config())
    )
    name = "model.layers.0.mlp.down_proj.weight"

    with source.open_tensor(name) as reader:
        np.testing.assert_array_equal(reader.read(3, 9), made[name].values[3:9])
