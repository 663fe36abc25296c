"""A tensor of the source, read in rows."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import FileIO
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from convert.tensors.dequantize import dequantize
from runtime.errors import ModelFileError

Rows = npt.NDArray[np.float32]


class SourceTensor(Struct, frozen=True):
    """One tensor of the model. `shape` is numpy's: rows first. `part` is the index of its file,
    `offset` its place there in bytes."""

    name: str
    shape: tuple[int, ...]
    type: str
    part: int
    offset: int
    num_bytes: int

    @property
    def num_rows(self) -> int:
        """The number of rows of `row_length` values; a vector is one row."""
        return self.num_values // self.row_length if self.row_length else 0

    @property
    def row_length(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    def num_values(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


class Part(Protocol):
    """A file of a model: its path, and its size in bytes."""

    @property
    def path(self) -> str: ...

    @property
    def file_size(self) -> int: ...


class RowReader(Protocol):
    """Reads rows of one tensor as float32."""

    @property
    def tensor(self) -> SourceTensor: ...

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` - 1, valid until the next call."""
        ...


class Source(Protocol):
    """A model to convert, in any file format."""

    @property
    def parts(self) -> Sequence[Part]: ...

    @property
    def architecture(self) -> str: ...

    @property
    def num_bytes(self) -> int: ...

    def tensor(self, name: str) -> SourceTensor:
        """The tensor of that name. Raises ModelFileError, naming it, where it is missing."""
        ...

    def open_tensor(self, name: str) -> AbstractContextManager[RowReader]:
        """A reader of one tensor's rows, for one thread."""
        ...


class TensorReader:
    """Reads rows of one tensor as float32."""

    def __init__(self, file: FileIO, path: str, tensor: SourceTensor) -> None:
        self.tensor = tensor
        self._file = file
        self._path = path
        self._row_bytes = tensor.num_bytes // tensor.num_rows if tensor.num_rows else 0
        # Reuses buffers: returning memory to the system and asking again costs more than reading.
        self._buffer = np.empty(0, dtype=np.uint8)
        self._values = np.empty(0, dtype=np.float32)

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` - 1, valid until the next call.

        Raises ModelFileError when the file has become shorter.
        """
        tensor = self.tensor
        buffer = self._room(stop - start)
        self._file.seek(tensor.offset + start * self._row_bytes)
        self._fill(buffer.data)
        try:
            shape = stop - start, tensor.row_length
            return dequantize(buffer, tensor.type, *shape, out=self._values)
        except NotImplementedError as error:
            raise ModelFileError(
                f"{self._path}: {tensor.name}: no way to read the type {tensor.type} is known."
            ) from error

    def _room(self, num_rows: int) -> npt.NDArray[np.uint8]:
        size, count = num_rows * self._row_bytes, num_rows * self.tensor.row_length
        if self._buffer.size < size or self._values.size < count:
            self._buffer = np.empty(size, dtype=np.uint8)
            self._values = np.empty(count, dtype=np.float32)
        return self._buffer[:size]

    def _fill(self, view: memoryview) -> None:
        while len(view):
            count = self._file.readinto(view)
            if not count:
                raise ModelFileError(f"{self._path}: {self.tensor.name}: the file ends inside it.")
            view = view[count:]
