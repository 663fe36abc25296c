"""Checkpoints that were converted, read back."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from convert.target.layouts import from_bf16
from convert.tensors.safetensors_file import read_places

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


def scalar(folder: Path, name: str) -> float:
    place = read_places(folder / "model.safetensors")[name]
    assert place.output.shape == ()
    with open(folder / place.file, "rb") as file:
        file.seek(place.offset)
        return float(np.frombuffer(file.read(4), dtype="<f4")[0])
