"""Proves a checkpoint: whole, as its manifest says, and close to its source."""

from collections.abc import Iterator
from contextlib import ExitStack
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from convert.calibration.folding import norm_of
from convert.mapping.open_model import open_model
from convert.pipeline import manifest
from convert.pipeline.manifest import Manifest, TensorRecord, decode_manifest
from convert.pipeline.workspace import checksum
from convert.source.blocks import read_blocks
from convert.target.layouts import make_layout
from convert.target.recipe import ALGORITHMS, AWQ, KEEP
from convert.tensors.error_meter import Difference, DifferenceMeter
from convert.tensors.output import Output
from convert.tensors.safetensors_file import Place, read_places
from convert.tensors.source_tensor import Rows, Source
from convert.tensors.weights import Weight
from runtime.errors import ModelFileError

# What rounding alone may cost, |difference| / |weight|, with room for weights of uneven size.
MAX_ERROR = {
    "bfloat16": 2**-8,
    "float16": 2**-9,
    "fp8": 0.05,
    "int8": 0.05,
    "int4-awq": 0.4,
    "int4-kept": 2**-8,
    "int4-rtn": 0.3,
    "nvfp4-w4a16": 0.2,
}


class VerifiedTensor(Struct, frozen=True):
    """One weight of the target. `passed` says that its error is below its precision's bound."""

    name: str
    precision: str
    difference: Difference

    @property
    def passed(self) -> bool:
        return self.difference.error <= MAX_ERROR[self.precision]


class Target:
    """A finished folder."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelFileError for a folder that `lockgate-convert run` has not finished."""
        self.folder = folder
        path = folder / manifest.FILE
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error}") from error
        self.manifest: Manifest = decode_manifest(data, str(path))
        self.places: dict[str, Place] = {}
        for file in sorted(folder.glob("*.safetensors")):
            self.places.update(read_places(file))

    def check(self) -> None:
        """Raises ModelFileError for a tensor that is missing, unexpected, or has changed."""
        expected = {name: crc for t in self.manifest.tensors for name, crc in t.crc32.items()}
        for name in self.places.keys() ^ expected.keys():
            problem = "is missing" if name in expected else "is not in the manifest"
            raise ModelFileError(f"{self.folder}: the tensor `{name}` {problem}.")
        for name, place in self.places.items():
            if checksum(self.folder, place) != expected[name]:
                raise ModelFileError(f"{self.folder}: the tensor `{name}` is damaged.")
        for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
            if not (self.folder / name).is_file():
                raise ModelFileError(f"{self.folder}: `{name}` is missing.")


def verify(folder: Path) -> list[VerifiedTensor]:
    """Check every byte against the manifest, and return the differences that it notes."""
    target = Target(folder)
    target.check()
    return [
        VerifiedTensor(record.name, record.precision, record.difference)
        for record in target.manifest.tensors
    ]


def verify_against(folder: Path, source_path: Path) -> Iterator[VerifiedTensor]:
    """Like `verify`, but read both and compute the differences anew, weight by weight.

    A norm that int4-awq has divided is compared as part of the weights behind it.
    """
    target = Target(folder)
    target.check()
    model = open_model(source_path)
    source, weights = model.source, model.weights
    records = {record.name: record for record in target.manifest.tensors}
    if missing := {weight.name for weight in weights} ^ records.keys():
        raise ModelFileError(f"{source_path} is another model: {min(missing)} is not in both.")
    names = records.keys()
    awq = [weight for weight in weights if records[weight.name].precision == AWQ]
    norms = {weight.name: norm for weight in awq if (norm := norm_of(weight, names))}
    by_name = {weight.name: weight for weight in weights}
    gemma = model.architecture.name.startswith("gemma")
    for weight in weights:
        if weight.name in norms.values():
            continue  # compared with the weights behind it: only their product has a meaning
        record = records[weight.name]
        norm = norms.get(weight.name)
        factor = _folded(target, source, by_name[norm], gemma=gemma) if norm else None
        yield VerifiedTensor(
            weight.name, record.precision, _compare(target, source, weight, record, factor)
        )


def _folded(target: Target, source: Source, norm: Weight, *, gemma: bool) -> Rows:
    """The factor on each input channel of the weights behind a norm, in the target."""
    layout = make_layout(norm, KEEP, target.manifest.recipe.dtype)
    (output,) = layout.outputs()
    with OutputReader(target, output, 1) as reader:
        written = layout.decode({output.name: reader.read(1)}).reshape(-1) + np.float32(gemma)
    original = next(iter(read_blocks(source, norm))).reshape(-1) + np.float32(gemma)
    shut = written == 0
    factor = np.where(shut, 1, original) / np.where(shut, 1, written)
    return factor.astype(np.float32)


def _compare(
    target: Target,
    source: Source,
    weight: Weight,
    record: TensorRecord,
    factor: Rows | None = None,
) -> Difference:
    precision = record.precision if record.precision in ALGORITHMS else KEEP
    layout = make_layout(weight, precision, target.manifest.recipe.dtype)
    outputs = {output.name: output for output in layout.outputs()}
    for name, output in outputs.items():
        if (found := target.places[name].output) != output:
            raise ModelFileError(f"{target.folder}: `{name}` is {found.dtype} {found.shape}.")
    num_rows = weight.num_rows
    meter = DifferenceMeter()
    with ExitStack() as stack:
        readers = {
            name: stack.enter_context(OutputReader(target, output, num_rows))
            for name, output in outputs.items()
        }
        constants = {name: readers.pop(name).read(num_rows) for name in layout.constants()}
        for rows in read_blocks(source, weight):
            part = {name: reader.read(len(rows)) for name, reader in readers.items()}
            meant = rows if factor is None else rows * factor
            meter.add(meant, layout.decode({**part, **constants}))
    return meter.result()


_TYPES = {"F32": "<f4", "BF16": "<u2", "F16": "<f2", "F8_E4M3": "u1", "I8": "i1", "U8": "u1"}


class OutputReader:
    """Reads the part of an output that belongs to the next rows of a weight."""

    def __init__(self, target: Target, output: Output, num_rows: int) -> None:
        place = target.places[output.name]
        self._file = FileIO(target.folder / place.file)
        self._file.seek(place.offset)
        self._output = output
        self._num_rows = num_rows

    def __enter__(self) -> "OutputReader":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read(self, count: int) -> npt.NDArray[np.generic]:
        data = self._file.read(self._output.num_bytes * count // self._num_rows)
        values = np.frombuffer(data, dtype=_TYPES[self._output.dtype])
        shape = self._output.shape
        if len(shape) < 2:
            return values.reshape(()) if not shape else _as_rows(values, self._num_rows)
        return values.reshape(-1, shape[1])


def _as_rows(values: npt.NDArray[np.generic], num_rows: int) -> npt.NDArray[np.generic]:
    """A vector weight is one row; a vector of scales has a value for each row."""
    return values.reshape(1, -1) if num_rows == 1 else values
