"""A Hugging Face folder of safetensors as the converter reads it: plain, or packed by AWQ or GPTQ.

A packed weight appears under the name and with the shape of the plain one. Files are read and not
memory-mapped, for the reason given in `convert.source.gguf`. The integers of a packed weight are
read as a whole: a row of the plain weight, one output, is a column there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from convert.source.packing import PackedTensor, Packing
from convert.source.packing_config import read_packing
from convert.tensors.dequantize import dequantize
from convert.tensors.output import Output
from convert.tensors.safetensors_file import Place, read_places
from convert.tensors.source_tensor import RowReader, Rows, SourceTensor, TensorReader
from runtime.errors import ModelFileError
from runtime.models.hf_folder import CONFIG_FILE, read_fields

INDEX_FILE = "model.safetensors.index.json"
SMALL_FILES = (CONFIG_FILE, "generation_config.json", "quantize_config.json", INDEX_FILE)
FLOATS = ("F32", "F16", "BF16")
_PACKED_PARTS = ("qweight", "qzeros", "scales", "g_idx")
# Far above any real model; it bounds how many files a hostile index makes us open.
_MAX_FILES = 1000


class FolderPart(Struct, frozen=True):
    """A file of the folder that the conversion depends on. `file_size` is in bytes."""

    path: str
    file_size: int


class PackedInfo(Struct, frozen=True):
    """One packed weight: `tensor` describes it as a plain one, the others are its stored arrays.
    `g_idx` is None if each group is a run of consecutive inputs."""

    packing: Packing
    tensor: SourceTensor
    qweight: SourceTensor
    qzeros: SourceTensor
    scales: SourceTensor
    g_idx: SourceTensor | None


class FolderSource:
    """A folder with `config.json` and safetensors files.

    `architecture` is the first of config.json's `architectures`. `tensors` has packed weights under
    their plain names, with the type AWQ or GPTQ. `parts` are the weight files and those of
    `SMALL_FILES` that exist.
    """

    def __init__(self, folder: Path, config: dict[str, Any], files: list[Path]) -> None:
        self.folder = folder
        self.config = config
        self.architecture = _architecture(folder, config)
        small = [folder / name for name in SMALL_FILES if (folder / name).is_file()]
        self.parts = tuple(FolderPart(str(p), p.stat().st_size) for p in (*files, *small))
        self.packing = read_packing(folder, config)
        stored = _read_files(files)
        self.packed = _packed(folder, stored, self.packing)
        hidden = {f"{module}.{part}" for module in self.packed for part in _PACKED_PARTS}
        plain = {name: tensor for name, tensor in stored.items() if name not in hidden}
        weights = {info.tensor.name: info.tensor for info in self.packed.values()}
        if twice := plain.keys() & weights.keys():
            raise ModelFileError(f"{folder}: `{min(twice)}` is there both packed and plain.")
        self.tensors: dict[str, SourceTensor] = plain | weights

    @property
    def num_bytes(self) -> int:
        """The size of all tensors together."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())

    def tensor(self, name: str) -> SourceTensor:
        """The tensor of that name. Raises ModelFileError, naming it, where it is missing."""
        found = self.tensors.get(name)
        if found is None:
            raise ModelFileError(f"{self.folder}: the tensor `{name}` is missing.")
        return found

    def packed_info(self, name: str) -> PackedInfo | None:
        """The packed arrays of a weight; None for a weight that is not packed."""
        return self.packed.get(name.removesuffix(".weight"))

    @contextmanager
    def open_tensor(self, name: str) -> Iterator[RowReader]:
        """A reader of one tensor's rows, for one thread."""
        tensor = self.tensor(name)
        if self.packed_info(name) is not None:
            yield PackedReader(tensor, self.load_packed(name))
            return
        with self._open(tensor) as file:
            yield TensorReader(file, self.parts[tensor.part].path, tensor)

    def load_packed(self, name: str, *, integers: bool = True) -> PackedTensor:
        """The arrays of a packed weight. Without `integers`, `qweight`, which is most of the data,
        is left empty.

        Raises ModelFileError for a group number that does not exist, and for a file that ends too
        early.
        """
        info = self.packed_info(name)
        assert info is not None, name
        none = np.empty((0, 0), dtype=np.uint32)
        return PackedTensor(
            packing=info.packing,
            qweight=self._integers(info.qweight) if integers else none,
            qzeros=self._integers(info.qzeros),
            scales=self._floats(info.scales),
            groups=self._groups(info),
        )

    def _groups(self, info: PackedInfo) -> npt.NDArray[np.int64]:
        num_inputs, num_groups = info.tensor.shape[1], info.scales.shape[0]
        if info.g_idx is None:
            return np.arange(num_inputs) // info.packing.inputs_per_group(num_inputs)
        groups = self._integers(info.g_idx).view(np.int32).astype(np.int64)
        if groups.min() < 0 or groups.max() >= num_groups:
            raise ModelFileError(
                f"{self._path(info.g_idx)}: {info.g_idx.name}: names a group beyond"
                f" {num_groups - 1}."
            )
        return groups

    def _integers(self, tensor: SourceTensor) -> npt.NDArray[np.uint32]:
        return self._bytes(tensor).view("<u4").astype(np.uint32, copy=False).reshape(tensor.shape)

    def _floats(self, tensor: SourceTensor) -> Rows:
        return dequantize(self._bytes(tensor), tensor.type, *tensor.shape)

    def _bytes(self, tensor: SourceTensor) -> npt.NDArray[np.uint8]:
        data = np.empty(tensor.num_bytes, dtype=np.uint8)
        view = data.data
        with self._open(tensor) as file:
            file.seek(tensor.offset)
            while len(view):
                count = file.readinto(view)
                if not count:
                    raise ModelFileError(
                        f"{self._path(tensor)}: {tensor.name}: the file ends inside it."
                    )
                view = view[count:]
        return data

    def _open(self, tensor: SourceTensor) -> FileIO:
        try:
            return FileIO(self._path(tensor))
        except OSError as error:
            raise ModelFileError(f"{self._path(tensor)}: cannot be read: {error}") from error

    def _path(self, tensor: SourceTensor) -> str:
        return self.parts[tensor.part].path


class PackedReader:
    """Reads rows of a packed weight as float32."""

    def __init__(self, tensor: SourceTensor, packed: PackedTensor) -> None:
        self.tensor = tensor
        self._packed = packed

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` - 1."""
        return self._packed.rows(start, stop)


def open_folder(folder: Path) -> FolderSource:
    """Reads config.json and the headers. Raises ModelFileError, naming the file and the field."""
    config = read_fields(folder / CONFIG_FILE, dict[str, Any])
    return FolderSource(folder, config, weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files: those of the index, else the only one.

    Raises ModelFileError for an index that names files that are missing or outside the folder, and
    for a folder without an index that has no such file or several.
    """
    index = folder / INDEX_FILE
    if index.exists():
        return _files_of_index(folder, index)
    single = folder / "model.safetensors"
    files = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelFileError(f"{folder}: there are no safetensors files in this folder.")
    if len(files) > 1:
        raise ModelFileError(
            f"{folder}: there are {len(files)} safetensors files and no {INDEX_FILE}."
        )
    return files


def _files_of_index(folder: Path, index: Path) -> list[Path]:
    weight_map = read_fields(index, _Index).weight_map
    names = sorted(set(weight_map.values()))
    if not 0 < len(names) <= _MAX_FILES:
        raise ModelFileError(f"{index}: `weight_map` names {len(names)} files.")
    for name in names:
        if name != Path(name).name or "\\" in name or not name.endswith(".safetensors"):
            raise ModelFileError(
                f"{index}: `weight_map`: {name!r} is not the name of a safetensors file of this"
                " folder."
            )
        if not (folder / name).is_file():
            raise ModelFileError(f"{index}: `weight_map`: the file {name!r} is missing.")
    _check_index(folder, index, weight_map)
    return [folder / name for name in names]


def _check_index(folder: Path, index: Path, weight_map: Mapping[str, str]) -> None:
    held = {name: read_places(folder / name).keys() for name in set(weight_map.values())}
    for tensor, name in weight_map.items():
        if tensor not in held[name]:
            raise ModelFileError(f"{index}: `weight_map`: `{tensor}` is not in {name}.")


class _Index(Struct):
    weight_map: dict[str, str]


def _architecture(folder: Path, config: dict[str, Any]) -> str:
    named = config.get("architectures")
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise ModelFileError(f"{folder / CONFIG_FILE}: `architectures` is missing.")
    return named[0]


def _read_files(files: list[Path]) -> dict[str, SourceTensor]:
    tensors: dict[str, SourceTensor] = {}
    for number, path in enumerate(files):
        for name, place in read_places(path).items():
            if name in tensors:
                raise ModelFileError(f"{path}: `{name}` is in two files of the model.")
            tensors[name] = _tensor(place, number)
    return tensors


def _tensor(place: Place, part: int) -> SourceTensor:
    output: Output = place.output
    return SourceTensor(
        output.name, output.shape, output.dtype, part, place.offset, output.num_bytes
    )


def _packed(
    folder: Path, stored: dict[str, SourceTensor], packing: Packing | None
) -> dict[str, PackedInfo]:
    """The packed weights by their modules' names."""
    modules = [name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")]
    if modules and packing is None:
        raise ModelFileError(
            f"{folder / CONFIG_FILE}: `quantization_config` is missing, and the weights are packed."
        )
    if packing is None:
        return {}
    return {module: _packed_info(folder, stored, module, packing) for module in modules}


def _packed_info(
    folder: Path, stored: dict[str, SourceTensor], module: str, packing: Packing
) -> PackedInfo:
    found = {part: stored.get(f"{module}.{part}") for part in _PACKED_PARTS}
    qweight, qzeros, scales = found["qweight"], found["qzeros"], found["scales"]
    if qweight is None or qzeros is None or scales is None:
        missing = min(part for part in ("qzeros", "scales") if found[part] is None)
        raise ModelFileError(f"{folder}: the tensor `{module}.{missing}` is missing.")
    if len(qweight.shape) != 2:
        raise ModelFileError(f"{folder}: {qweight.name}: its shape is {qweight.shape}.")
    g_idx = found["g_idx"] if packing.method == "gptq" else None
    rows, columns = qweight.shape
    if packing.method == "awq":
        inputs, outputs = rows, columns * packing.per_integer
    else:
        inputs, outputs = rows * packing.per_integer, columns
    groups = packing.num_groups(inputs) if inputs else 0
    _check(folder, qweight, ("I32",), (rows, columns))
    _check(folder, qzeros, ("I32",), (groups, -(-outputs // packing.per_integer)))
    _check(folder, scales, FLOATS, (groups, outputs))
    if g_idx is not None:
        _check(folder, g_idx, ("I32",), (inputs,))
    num_bytes = sum(tensor.num_bytes for tensor in (qweight, qzeros, scales))
    weight = SourceTensor(
        name=f"{module}.weight",
        shape=(outputs, inputs),
        type=packing.method.upper(),
        part=qweight.part,
        offset=qweight.offset,
        num_bytes=num_bytes,
    )
    return PackedInfo(packing, weight, qweight, qzeros, scales, g_idx)


def _check(
    folder: Path, tensor: SourceTensor, types: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    if tensor.type not in types:
        raise ModelFileError(
            f"{folder}: {tensor.name}: its type is {tensor.type} and should be"
            f" {' or '.join(types)}."
        )
    if tensor.shape != shape or 0 in shape:
        raise ModelFileError(
            f"{folder}: {tensor.name}: its shape is {tensor.shape} and should be {shape}."
        )
