"""`lockgate-convert plan`: sizes that the folders have, and the planner's word on the GPU."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from convert.__main__ import main
from convert.checks.offers import make_offers
from convert.pipeline.plan import Options
from convert.target.recipe import PRECISIONS
from runtime.hardware.gpu_table import find_gpu
from runtime.models.gguf import read_gguf
from runtime.planning.config_shape import shape_of_config
from runtime.planning.gguf_shape import shape_of_gguf
from runtime.planning.memory_account import Wishes
from tests.kit.models.conversion import converted
from tests.kit.models.packed_folders import (
    CLASSES,
    awq_config,
    gptq_config,
    make_weights,
    plain,
    quantize,
    write_checkpoint,
)
from tests.kit.models.tiny_checkpoints import (
    ARCHITECTURES,
    tiny_gguf,
)


def make_model(folder: Path, architecture: str, **options: int) -> Path:
    return tiny_gguf(folder, architecture, **options)[0]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["qwen3", "mixtral", "phi3"])
def test_sizes_are_those_of_the_folders(architecture: str, tmp_path: Path) -> None:
    path = make_model(tmp_path, architecture)
    offers = make_offers(path, find_gpu("rtx-4070"), Wishes(context=64), Options()).offers

    assert [offer.precision for offer in offers] == list(PRECISIONS)
    assert any(not offer.refused for offer in offers)
    for offer in offers:
        if offer.refused:
            assert f"precision {offer.precision}" in offer.refused
            continue
        target = tmp_path / offer.precision
        converted(path, target, offer.precision)
        assert offer.num_bytes == (target / "model.safetensors").stat().st_size


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_and_its_folder_have_the_same_shape(architecture: str, tmp_path: Path) -> None:
    path = make_model(tmp_path, architecture)
    converted(path, tmp_path / "t")
    config = json.loads((tmp_path / "t" / "config.json").read_text())
    file, folder = shape_of_gguf(read_gguf(path), "m"), shape_of_config(config, "m")

    for name in ("num_params", "num_active_params", "num_experts", "expert_params", "kv_width"):
        assert getattr(file, name) == getattr(folder, name), name
    assert file.num_layers == folder.num_layers == 2


def test_a_split_model_is_planned_whole(tmp_path: Path) -> None:
    whole = make_offers(
        make_model(tmp_path, "llama"), find_gpu("l40s"), Wishes(context=64), Options()
    )
    make_model(tmp_path, "llama", split_max_tensors=8)
    part = sorted(tmp_path.glob("llama-0*.gguf"))[1]
    split = make_offers(part, find_gpu("l40s"), Wishes(context=64), Options())

    assert split.plan.num_params == whole.plan.num_params > 0
    assert [offer.num_bytes for offer in split.offers] == [
        offer.num_bytes for offer in whole.offers
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folder_is_planned_like_the_file_that_it_came_from(
    architecture: str, tmp_path: Path
) -> None:
    path = make_model(tmp_path, architecture)
    folder = tmp_path / "t"
    converted(path, folder)
    gpu, wishes = find_gpu("rtx-4070"), Wishes(context=64)
    file, again = (make_offers(found, gpu, wishes, Options()) for found in (path, folder))

    assert again.offers == file.offers
    assert again.plan == msgspec.structs.replace(file.plan, model="t")


def make_folder(folder: Path, architecture: str, method: str, **options: Any) -> Path:
    """A plain folder (method bf16 or fp16), or one packed as AWQ or GPTQ."""
    weights, kinds = make_weights(architecture), {"bf16": "BF16", "fp16": "F16"}
    if method in kinds:
        return write_checkpoint(folder, architecture, plain(weights, kinds[method]), num_files=2)
    stored, _ = quantize(weights, method, **options)
    config = (awq_config if method == "awq" else gptq_config)(
        group_size=options.get("group_size", 128)
    )
    return write_checkpoint(folder, architecture, stored, config=config)


@pytest.mark.parametrize("architecture", CLASSES)
@pytest.mark.parametrize("method", ["bf16", "fp16", "awq", "gptq"])
def test_the_weights_of_a_folder_are_counted(
    architecture: str, method: str, tmp_path: Path
) -> None:
    path = make_folder(tmp_path / "m", architecture, method)
    offers = make_offers(path, find_gpu("l40s"), Wishes(context=64), Options())

    assert offers.plan.model == "m"
    assert offers.plan.num_params == sum(w.size for w in make_weights(architecture).values())


@pytest.mark.parametrize(
    ("method", "options", "requantize", "problem"),
    [
        ("bf16", {}, False, ""),
        ("awq", {}, False, ""),
        ("gptq", {}, False, ""),
        ("awq", {"symmetric": False}, False, "zero points are not 8"),
        ("gptq", {"group_size": 64}, False, "its groups are of 64 inputs"),
        ("gptq", {"group_size": 64}, True, ""),
    ],
)
def test_sizes_of_folders(
    method: str, options: dict[str, Any], requantize: bool, problem: str, tmp_path: Path
) -> None:
    """What is offered can be made, in that size, and what is refused cannot, for that reason."""
    path = make_folder(tmp_path / "m", "llama", method, **options)
    made = Options(requantize=requantize, release="1.3")
    offers = make_offers(path, find_gpu("rtx-4070"), Wishes(context=64), made).offers

    refused = {offer.precision: offer.refused for offer in offers if offer.refused}
    assert refused.keys() == ({"int4-rtn", "int4-awq"} if problem else set())
    assert all(problem in reason for reason in refused.values())
    for offer in offers:
        if offer.precision in ("fp8", "int4-rtn", "nvfp4-w4a16") and not offer.refused:
            target = tmp_path / offer.precision
            converted(path, target, offer.precision, requantize=requantize, release="1.3")
            assert offer.num_bytes == (target / "model.safetensors").stat().st_size


def test_the_table_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_folder(tmp_path / "m", "llama", "gptq", group_size=64)
    command = ["plan", str(path), "--gpu", "rtx-4070", "--context", "64"]

    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.rstrip() for line in lines if line[:1].isalpha()}
    assert lines[0].startswith("m, 0.00 billion weights, on ")
    assert rows["bf16"].endswith(" runs")
    assert rows["int4-awq"].endswith("cannot be made")
    assert sum("its levels cannot be kept" in line for line in lines) == 1
    assert rows["nvfp4-w4a16"].endswith("cannot be made")
    assert any("TensorRT-LLM 1.2 does not load it" in line for line in lines)
    assert main([*command, "--requantize", "--release", "1.3"]) == 0
    assert "cannot be made" not in capsys.readouterr().out


def test_requantize_wants_levels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_folder(tmp_path / "m", "llama", "fp16")

    assert main(["plan", str(path), "--gpu", "rtx-4070", "--requantize"]) == 2
    assert "--requantize is for sources that AWQ or GPTQ has packed" in capsys.readouterr().err


def test_what_transformers_writes_as_null(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", "qwen3moe", "bf16")
    config = json.loads((path / "config.json").read_text())
    config |= {"mlp_only_layers": None, "decoder_sparse_step": None, "attention_bias": None}
    (path / "config.json").write_text(json.dumps(config))

    offers = make_offers(path, find_gpu("l40s"), Wishes(context=64), Options())
    assert offers.plan.num_params == sum(w.size for w in make_weights("qwen3moe").values())


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_model(tmp_path, "qwen2")

    assert main(["plan", str(path), "--gpu", "rtx-4070", "--context", "64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line[:1].isalpha()}
    assert rows["fp8"].rstrip().endswith("runs")
    assert rows["int8"].rstrip().endswith("cannot be made")
    assert any("drops the bias of int8 layers" in line for line in lines)

    assert main(["plan", str(path), "--gpu", "a100-40gb", "--context", "64", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    found = {offer["precision"]: offer["row"]["support"]["can_run"] for offer in answer["offers"]}
    assert found["bf16"] is True
    assert found["fp8"] is False, "Ampere has no FP8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "rtx-0000"], "rtx-0000"),
        (["--gpu", "rtx-4070", "--context", "100"], "a context of 64 tokens, and 100"),
        (["--gpu", "rtx-4070", "--max-batch-size", "0"], "'0' is not a whole number from 1"),
    ],
)
def test_what_cannot_be_planned(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(make_model(tmp_path, "llama")), *arguments]) == 2
    assert message in capsys.readouterr().err
