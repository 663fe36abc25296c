"""What a finished checkpoint says about itself: where it comes from and what it has lost."""

import msgspec
from msgspec import Struct

from convert.target.recipe import Recipe
from convert.tensors.error_meter import Difference
from runtime.errors import ModelFileError

FILE = "lockgate_manifest.json"
FORMAT = 1


class SourceFile(Struct, frozen=True):
    """A file that the checkpoint was made from. `size` is in bytes, `sha256` in hex."""

    name: str
    size: int
    sha256: str


class TensorRecord(Struct, frozen=True, kw_only=True):
    """One weight: how it was stored, its difference, and the CRC-32 of each tensor written."""

    name: str
    precision: str
    difference: Difference
    crc32: dict[str, int]


class Manifest(Struct, frozen=True, kw_only=True):
    """The last file to be written; a folder without it is not finished."""

    format: int
    lockgate: str
    architecture: str
    release: str
    recipe: Recipe
    sources: tuple[SourceFile, ...]
    tensors: tuple[TensorRecord, ...]


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode_manifest(data: bytes, path: str) -> Manifest:
    """Raises ModelFileError if the data is not a manifest of this format."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: {error}") from error
    if manifest.format != FORMAT:
        raise ModelFileError(f"{path}: `format` is {manifest.format}; this version reads {FORMAT}.")
    return manifest
