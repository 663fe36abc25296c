"""`lockgate-convert plan`: sizes that the folders have, and the planner's word on the GPU."""

import json
from pathlib import Path

import pytest

from convert.__main__ import main
from convert.pipeline import Options, convert
from convert.planning import make_offers
from convert.recipe import PRECISIONS, make_recipe
from runtime.gguf import read_gguf
from runtime.planning.config_shape import shape_of_config
from runtime.planning.gguf_shape import shape_of_gguf
from runtime.planning.gpu_table import find_gpu
from runtime.planning.memory_account import Wishes
from tests.tiny_checkpoints import (
    ARCHITECTURES,
    byte_level_vocabulary,
    random_weights,
    write_gguf,
)


def make_model(folder: Path, architecture: str, **options: int) -> Path:
    count = len(byte_level_vocabulary(folder)["tokenizer.ggml.tokens"])
    weights = random_weights(architecture, count)
    return write_gguf(folder / f"{architecture}.gguf", architecture, weights, **options)


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
        convert(path, target, make_recipe(offer.precision), Options(), lambda num_bytes: None)
        assert offer.num_bytes == (target / "model.safetensors").stat().st_size


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_and_its_folder_have_the_same_shape(architecture: str, tmp_path: Path) -> None:
    path = make_model(tmp_path, architecture)
    convert(path, tmp_path / "t", make_recipe("bf16"), Options(), lambda num_bytes: None)
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
        (["--gpu", "rtx-4070", "--max-batch-size", "0"], "max_batch_size is 0"),
    ],
)
def test_what_cannot_be_planned(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(make_model(tmp_path, "llama")), *arguments]) == 2
    assert message in capsys.readouterr().err
