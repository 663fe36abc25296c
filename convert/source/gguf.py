"""A GGUF model as the converter reads it: one file or the parts of a split one, rows on demand.

Rows are read with plain reads and not through a memory map: pages of a map count as memory of the
process, and a file that is cut off while it is mapped kills the process.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from convert.tensors.dequantize import dequantize
from runtime.errors import ModelFileError
from runtime.models.gguf import GGUFFile, TensorInfo, read_gguf

_SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")
# Far above any real model; it bounds how many files a hostile header makes us open.
_MAX_PARTS = 1000

Rows = npt.NDArray[np.float32]


class SourceTensor(Struct, frozen=True):
    """One tensor of the model. `shape` is numpy's: rows first. `part` is the file it lies in."""

    name: str
    shape: tuple[int, ...]
    type: str
    part: int
    offset: int
    num_bytes: int

    @property
    def num_rows(self) -> int:
        """How many rows of `row_length` values it has; a vector is one row."""
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
    """A file of a model: where it is and how long, in bytes."""

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
    """A model to be converted, whatever its files are."""

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


class GGUFSource:
    """All parts of one model. `header` is the first part's, which holds the metadata."""

    def __init__(self, parts: tuple[GGUFFile, ...]) -> None:
        self.parts = parts
        self.header = parts[0]
        self.architecture = self.header.text("general.architecture")
        self.tensors: dict[str, SourceTensor] = {}
        for number, part in enumerate(parts):
            self._add_part(number, part)

    @property
    def num_bytes(self) -> int:
        """The size of all parts together."""
        return sum(part.file_size for part in self.parts)

    def tensor(self, name: str) -> SourceTensor:
        """The tensor of that name. Raises ModelFileError, naming it, where it is missing."""
        found = self.tensors.get(name)
        if found is None:
            raise ModelFileError(f"{self.header.path}: the tensor `{name}` is missing.")
        return found

    @contextmanager
    def open_tensor(self, name: str) -> Iterator["TensorReader"]:
        """A reader of one tensor's rows, for one thread."""
        tensor = self.tensor(name)
        path = self.parts[tensor.part].path
        try:
            file = FileIO(path)
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error}") from error
        with file:
            yield TensorReader(file, path, tensor)

    def values(self, name: str) -> Rows:
        """A whole small tensor, flat."""
        with self.open_tensor(name) as reader:
            return reader.read(0, reader.tensor.num_rows).reshape(-1)

    def _add_part(self, number: int, part: GGUFFile) -> None:
        for info in part.tensors:
            if info.name in self.tensors:
                raise ModelFileError(f"{part.path}: `{info.name}` is in two parts of the model.")
            self.tensors[info.name] = _tensor(info, number)


class TensorReader:
    """Reads rows of one tensor as float32."""

    def __init__(self, file: FileIO, path: str, tensor: SourceTensor) -> None:
        self.tensor = tensor
        self._file = file
        self._path = path
        self._row_bytes = tensor.num_bytes // tensor.num_rows if tensor.num_rows else 0
        # Memory that is given back to the system and asked for again costs more than the reading.
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


def open_source(path: str | Path) -> GGUFSource:
    """Open a GGUF model; any part of a split one stands for the whole.

    Raises ModelFileError, naming the field, for a damaged file, a missing part, and parts that
    do not belong together.
    """
    first = read_gguf(path)
    count = first.number("split.count") or 1
    if count == 1:
        return GGUFSource((first,))
    parts = tuple(read_gguf(part) for part in _part_paths(Path(path), count))
    for number, part in enumerate(parts):
        _check_part(part, number, count)
    source = GGUFSource(parts)
    expected = parts[0].number("split.tensors.count")
    if expected is not None and expected != len(source.tensors):
        raise ModelFileError(
            f"{path}: `split.tensors.count` is {expected}, the parts have {len(source.tensors)}."
        )
    return source


def _part_paths(path: Path, count: int) -> Iterator[Path]:
    name = _SPLIT_NAME.match(path.name)
    if not 1 < count <= _MAX_PARTS:
        raise ModelFileError(f"{path}: `split.count` is {count}.")
    if name is None or int(name["count"]) != count:
        raise ModelFileError(
            f"{path}: `split.count` is {count}, so its name must end in -00001-of-{count:05}.gguf."
        )
    for number in range(1, count + 1):
        part = path.with_name(f"{name['stem']}-{number:05}-of-{count:05}.gguf")
        if not part.is_file():
            raise ModelFileError(f"{part}: this part of the model is missing.")
        yield part


def _check_part(part: GGUFFile, number: int, count: int) -> None:
    if (found := part.number("split.count")) != count:
        raise ModelFileError(f"{part.path}: `split.count` is {found}, elsewhere {count}.")
    if (found := part.number("split.no")) != number:
        raise ModelFileError(f"{part.path}: `split.no` is {found} and should be {number}.")


def _tensor(info: TensorInfo, part: int) -> SourceTensor:
    shape = tuple(reversed(info.shape))
    return SourceTensor(info.name, shape, info.type, part, info.offset, info.num_bytes)
