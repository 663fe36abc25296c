"""Targets that are there, unfinished or damaged."""

import json
from pathlib import Path

import pytest

import convert.pipeline.convert as pipeline
from convert.checks.verify import Target, verify, verify_against
from convert.pipeline.convert import convert
from convert.pipeline.plan import Options
from convert.target.recipe import Recipe, Rule, make_recipe
from convert.tensors.safetensors_file import read_places
from runtime.errors import ModelFileError, SetupError
from tests.kit.models.checkpoints import (
    read_json,
)
from tests.kit.models.conversion import converted
from tests.kit.models.tiny_checkpoints import (
    tiny_gguf,
)


@pytest.mark.parametrize(
    ("recipe", "architecture", "message"),
    [
        (Recipe(precision="fp8", rules=(Rule("*.q_proj.*", "keep"),)), "llama", "loader fuses"),
        (Recipe(precision="fp8", rules=(Rule("*.qq.*", "keep"),)), "llama", "matches no linear"),
        (make_recipe("int8"), "qwen2", r"drops the bias of int8 layers.*q_proj\.bias|k_proj\.bias"),
        (make_recipe("int4-rtn"), "phi3", "int4-rtn is not possible for phi3"),
        (make_recipe("nvfp4-w4a16"), "llama", "1.2 does not load it.*--release 1.3"),
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
