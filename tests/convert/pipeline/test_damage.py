"""Damaged models: what the fuzzer has found, one by one, and a short run of it."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from benchmarks.fuzz_gguf import fuzz, make_seeds
from runtime.errors import ModelFileError
from tests.kit.models.conversion import converted
from tests.kit.models.tiny_checkpoints import (
    HEAD_DIM,
    tiny_gguf,
)

NUM_INPUTS = 400


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    numbers = range(10**9, 10**9 + NUM_INPUTS)
    report = fuzz(make_seeds(tmp_path), tmp_path, numbers, run_seed=0, seconds_each=20)

    assert report.findings == []
    assert report.num_inputs == NUM_INPUTS
    for stage in ("inspect", "tokenizer", "shape", "weights", "plan", "convert"):
        assert report.outcomes[f"{stage}: passed"], f"no input came through {stage}"
        assert report.outcomes[f"{stage}: refused"], f"no input was refused by {stage}"


def test_an_input_that_takes_too_long_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_ends(path: Path) -> None:
        while True:
            pass

    monkeypatch.setattr("benchmarks.fuzz_gguf.inspect", never_ends)
    kept = tmp_path / "kept"
    report = fuzz(
        make_seeds(tmp_path), tmp_path, range(7, 8), run_seed=0, seconds_each=0.01, keep=kept
    )

    assert [(found.number, found.stage) for found in report.findings] == [(7, "inspect")]
    assert list((kept / "7").glob("*.gguf"))


@pytest.mark.parametrize(
    ("name", "factors", "message"),
    [
        ("rope_freqs", np.ones(HEAD_DIM, np.float32), "has 32 values, not 16"),
        ("rope_freqs", np.zeros(HEAD_DIM // 2, np.float32), "not positive numbers"),
        ("rope_freqs", np.full(HEAD_DIM // 2, np.nan, np.float32), "not positive numbers"),
        ("rope_factors_long", np.full(HEAD_DIM // 2, np.inf, np.float32), "not positive numbers"),
    ],
)
def test_factors_that_cannot_be(
    name: str, factors: np.ndarray, message: str, tmp_path: Path
) -> None:
    architecture = "llama" if name == "rope_freqs" else "phi3"
    path, _ = tiny_gguf(tmp_path, architecture, extra={f"{name}.weight": factors})

    with pytest.raises(ModelFileError, match=rf"`{name}\.weight`.* {message}"):
        converted(path, tmp_path / "target")


def damage_value(path: Path, key: str, value: bytes) -> Path:
    """Overwrite the value of a metadata key in place."""
    field = gguf.GGUFReader(path).fields[key]
    start = field.offset + sum(part.nbytes for part in field.parts[:-1])
    data = bytearray(path.read_bytes())
    data[start : start + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("base", [0.0, -1.0, float("inf"), float("nan")])
def test_a_base_of_rotation_that_cannot_be(base: float, tmp_path: Path) -> None:
    factors = np.ones(HEAD_DIM // 2, np.float32)
    path, _ = tiny_gguf(tmp_path, "llama", extra={"rope_freqs.weight": factors})
    damage_value(path, "llama.rope.freq_base", struct.pack("<f", base))

    with pytest.raises(ModelFileError, match=r"`llama\.rope\.freq_base` is "):
        converted(path, tmp_path / "target")


def test_sampling_that_json_cannot_hold(tmp_path: Path) -> None:
    temperature = {"general.sampling.temp": float("nan")}
    path, _ = tiny_gguf(tmp_path, "qwen3", more=temperature)

    with pytest.raises(ModelFileError, match=r"`general\.sampling\.temp` is nan"):
        converted(path, tmp_path / "target")
