"""A GGUF model as the converter reads it: one file or the parts of a split one, rows on demand.

Files are read and not memory-mapped: mapped pages count as memory of the process, and a file that
is truncated while it is mapped kills the process.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from convert.tensors.source_tensor import (
    Rows,
    SourceTensor,
    TensorReader,
)
from runtime.errors import ModelFileError
from runtime.models.gguf import GGUFFile, TensorInfo, read_gguf

_SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")
# Far above any real model; it bounds how many files a hostile header makes us open.
_MAX_PARTS = 1000


class GGUFSource:
    """All parts of one model. `header` is that of the first part, which holds the metadata."""

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
        """All values of a tensor as a flat array; for small tensors."""
        with self.open_tensor(name) as reader:
            return reader.read(0, reader.tensor.num_rows).reshape(-1)

    def _add_part(self, number: int, part: GGUFFile) -> None:
        for info in part.tensors:
            if info.name in self.tensors:
                raise ModelFileError(f"{part.path}: `{info.name}` is in two parts of the model.")
            self.tensors[info.name] = _tensor(info, number)


def open_source(path: str | Path) -> GGUFSource:
    """Opens a GGUF model; the path may be that of any part of a split model.

    Raises ModelFileError, naming the field, for a damaged file, a missing part, and parts that do
    not belong together.
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
