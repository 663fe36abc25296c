"""The results of a calibration, on disk: they outlive an interruption and need no memory."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save_file

from convert.target.layouts import Grid
from convert.tensors.source_tensor import Rows
from convert.tensors.weights import Weight

_FOLDER = "calibration"


class Calibration:
    """One file for each layer, in a folder of the checkpoint that is being made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER
        self._folder.mkdir(exist_ok=True)

    def has(self, layer: int) -> bool:
        return self._path(layer).is_file()

    def save(self, layer: int, arrays: Mapping[str, Rows]) -> None:
        path = self._path(layer)
        unfinished = path.with_suffix(".partial")
        save_file(dict(arrays), unfinished)
        os.replace(unfinished, path)

    def grid(self, weight: Weight) -> Grid:
        """The levels of a weight."""
        steps = self._read(weight, f"{weight.module}.steps")
        assert steps is not None, weight.name
        return Grid(steps=steps, input_scale=self._read(weight, f"{weight.module}.input_scale"))

    def adjustment(self, weight: Weight) -> Callable[[Rows], Rows] | None:
        """Applies the scales to a block of rows: divides a norm, multiplies weights behind it."""
        norm = self._read(weight, weight.name)
        if norm is not None:
            return lambda rows: norm.reshape(rows.shape)
        key = f"{weight.module}.magnified"
        magnified = self._read(weight, key) if weight.linear else None
        return None if magnified is None else lambda rows: rows * magnified

    def remove(self) -> None:
        shutil.rmtree(self._folder)

    def _read(self, weight: Weight, key: str) -> Rows | None:
        parts = weight.name.split(".")
        if parts[:2] != ["model", "layers"]:
            return None
        # Not numpy's own format: threads read here, and its headers are Python, whose parser in
        # CPython 3.11 now and then fails with a SystemError when several threads use it.
        with safe_open(self._path(int(parts[2])), framework="np") as arrays:
            names: list[str] = arrays.keys()
            found: Rows | None = arrays.get_tensor(key) if key in names else None
            return found

    def _path(self, layer: int) -> Path:
        return self._folder / f"{layer}.safetensors"
