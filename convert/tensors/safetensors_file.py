"""safetensors files: a header with every tensor's place, written before the tensors themselves.

The place of each tensor is known before its values are, so that threads can fill a file in any
order. The format is that of safetensors' own description: the header's length in eight bytes, the
header as JSON, the data.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from convert.tensors.output import ITEM_SIZES, Output
from runtime.errors import ModelFileError

_ALIGNMENT = 8
# Room for 200,000 tensors; safetensors itself allows 100 MB, which no real model comes near.
_MAX_HEADER_BYTES = 1 << 25
_MAX_DIMENSIONS = 8
MAX_SHARD_BYTES = 5_000_000_000


class Place(Struct, frozen=True):
    """Where a tensor is stored: the name of its file, and the offset in bytes from the file's
    start."""

    file: str
    output: Output
    offset: int


class Shard(Struct, frozen=True):
    """One file to write: its header, and its whole length in bytes."""

    file: str
    header: bytes
    num_bytes: int
    places: tuple[Place, ...]


def plan_shards(outputs: Iterable[Output], max_bytes: int = MAX_SHARD_BYTES) -> list[Shard]:
    """Distributes tensors over files of at most `max_bytes` each, but at least one tensor."""
    groups: list[list[Output]] = [[]]
    size = 0
    for output in outputs:
        if groups[-1] and size + output.num_bytes > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(output)
        size += output.num_bytes
    count = len(groups)
    if count == 1:
        return [_shard("model.safetensors", groups[0])]
    return [
        _shard(f"model-{number:05}-of-{count:05}.safetensors", group)
        for number, group in enumerate(groups, 1)
    ]


def create_file(folder: Path, shard: Shard) -> None:
    """Writes the header and extends the file to its full length; existing data stays."""
    path = folder / shard.file
    with open(path, "r+b" if path.exists() else "xb") as file:
        file.write(shard.header)
        file.truncate(shard.num_bytes)


def index_of(shards: list[Shard]) -> bytes:
    """The content of model.safetensors.index.json."""
    places = [place for shard in shards for place in shard.places]
    total = sum(place.output.num_bytes for place in places)
    weight_map = {place.output.name: place.file for place in places}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return json.dumps(index, indent=2).encode() + b"\n"


def read_places(path: Path) -> dict[str, Place]:
    """The tensors of a file, by name. Raises ModelFileError for an impossible header."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise ModelFileError(f"{path}: the header is longer than the file.")
            raw = file.read(length)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error}") from error
    try:
        header = msgspec.json.decode(raw, type=dict[str, _Entry])
    except (msgspec.DecodeError, ValueError) as error:
        raise ModelFileError(f"{path}: the header is damaged: {error}") from error
    header.pop("__metadata__", None)
    places = {name: _place(path, name, entry, 8 + length, size) for name, entry in header.items()}
    _check_overlap(path, places.values())
    return places


def _shard(file: str, outputs: list[Output]) -> Shard:
    # Large items first, so that every tensor starts at a multiple of its item's size.
    ordered = sorted(outputs, key=lambda output: -ITEM_SIZES[output.dtype])
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    starts = []
    for output in ordered:
        end = position + output.num_bytes
        entries[output.name] = {
            "dtype": output.dtype,
            "shape": list(output.shape),
            "data_offsets": [position, end],
        }
        starts.append(position)
        position = end
    raw = json.dumps(entries, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % _ALIGNMENT)
    header = len(raw).to_bytes(8, "little") + raw
    places = tuple(
        Place(file, output, len(header) + start)
        for output, start in zip(ordered, starts, strict=True)
    )
    return Shard(file, header, len(header) + position, places)


def _place(path: Path, name: str, entry: "_Entry", data: int, size: int) -> Place:
    start, end = entry.data_offsets
    if entry.dtype not in ITEM_SIZES:
        raise ModelFileError(f"{path}: {name}: the type {entry.dtype!r} is not known.")
    if len(entry.shape) > _MAX_DIMENSIONS:
        raise ModelFileError(f"{path}: {name}: its shape has {len(entry.shape)} dimensions.")
    output = Output(name, entry.dtype, entry.shape)
    if min(entry.shape, default=1) < 0 or start < 0 or end - start != output.num_bytes:
        raise ModelFileError(f"{path}: {name}: its size is not what its shape says.")
    if data + end > size:
        raise ModelFileError(f"{path}: {name}: its data end outside the file.")
    return Place(path.name, output, data + start)


def _check_overlap(path: Path, places: Iterable[Place]) -> None:
    end, before = 0, ""
    for place in sorted(places, key=lambda place: place.offset):
        name = place.output.name
        if place.output.num_bytes and place.offset < end:
            raise ModelFileError(f"{path}: {name}: its data overlap those of `{before}`.")
        end, before = max(end, place.offset + place.output.num_bytes), name


class _Entry(Struct, frozen=True):
    """An entry of the header. `__metadata__` is an entry, too, without these fields."""

    dtype: str = ""
    shape: tuple[int, ...] = ()
    data_offsets: tuple[int, int] = (0, 0)
