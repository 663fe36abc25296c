"""The catalogue: the models that can be pulled by a short name. `catalogue.toml` lists them."""

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from runtime.errors import SetupError
from runtime.models.sources import HubFile, WheelMirror

_SHIPPED = Path(__file__).with_name("catalogue.toml")


class CatalogueEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model with a name. `size` is in bytes, `sha256` in hex.

    `hub` and `wheels` are two places that hold the file. None means that the place lacks it.
    """

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]*$")]
    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.gguf$")]
    size: Annotated[int, Meta(ge=1)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    licence: Annotated[str, Meta(min_length=1)]
    hub: HubFile | None = None
    wheels: WheelMirror | None = None


class _CatalogueFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    models: tuple[CatalogueEntry, ...]


@cache
def shipped_catalogue() -> tuple[CatalogueEntry, ...]:
    """The catalogue that this package contains."""
    return read_catalogue(_SHIPPED)


def read_catalogue(file: Path) -> tuple[CatalogueEntry, ...]:
    """The entries of a catalogue file. Raises SetupError, which names the file and the mistake."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        entries = msgspec.convert(document, _CatalogueFile).models
    except OSError as error:
        reason = error.strerror or error
        raise SetupError(f"the catalogue {file} cannot be read: {reason}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"the catalogue {file} is not valid TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise SetupError(f"the catalogue {file} is wrong: {error}") from error
    if mistake := _mistake_in(entries):
        raise SetupError(f"the catalogue {file} is wrong: {mistake}")
    return entries


def _mistake_in(entries: Sequence[CatalogueEntry]) -> str:
    """The first mistake that the types of the fields do not find; empty if there is none."""
    names: set[str] = set()
    for entry in entries:
        if twice := names & {entry.name, entry.file}:
            return f"two models have {twice.pop()}"
        names |= {entry.name, entry.file}
        if entry.hub is None and entry.wheels is None:
            return f"{entry.name} has neither a hub file nor wheels"
        if entry.wheels is not None:
            size = sum(part.size for part in entry.wheels.parts)
            if size != entry.size:
                return f"the wheels of {entry.name} hold {size} bytes, not {entry.size}"
    return ""
