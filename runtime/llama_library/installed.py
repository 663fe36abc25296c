"""Where llama.cpp's libraries lie on this machine, and how one is loaded."""

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from runtime.errors import LibraryUnusable
from runtime.llama_library.ik import IkLibrary
from runtime.llama_library.library import LlamaLibrary
from runtime.llama_library.mainline import MainlineLibrary


class Package(NamedTuple):
    """A Python package that brings a library: its name for people, its module, the extra of this
    project that installs it, and the release whose interface is declared here."""

    name: str
    module: str
    extra: str
    release: str


PACKAGES: Mapping[str, Package] = {
    "ik_llama.cpp": Package("ik-llama-cpp-python", "ik_llama_cpp", "cpu", "0.1.5"),
    "llama.cpp": Package("llama-cpp-python", "llama_cpp", "llama-cpp", "0.3.36"),
}
"""By the name of the family, the fastest on a processor first."""

_FAMILIES: Sequence[type[LlamaLibrary]] = (IkLibrary, MainlineLibrary)
_MARKS = {"llama.cpp": "llama_get_memory", "ik_llama.cpp": "llama_kv_cache_seq_cp"}
"""A function that only this family has."""


def file_names() -> Sequence[str]:
    """What the library's file is called on this system; the first that exists is meant."""
    if sys.platform == "win32":
        return ("llama.dll", "libllama.dll")
    if sys.platform == "darwin":
        return ("libllama.dylib", "libllama.so")
    return ("libllama.so",)


def library_file(family: str) -> Path | None:
    """The file of an installed family; None if it is not installed. Nothing is imported."""
    spec = importlib.util.find_spec(PACKAGES[family].module)
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    candidates = (Path(folder) / "lib" / name for folder in folders for name in file_names())
    return next((each for each in candidates if each.is_file()), None)


def installed_families() -> list[str]:
    """The families that are installed, the fastest on a processor first."""
    return [family for family in PACKAGES if library_file(family) is not None]


def library_version(name: str) -> str:
    """What tells builds of a library apart: a package's version, or a file's size and time, as
    seconds of the epoch.

    Raises LibraryUnusable for a family that is not installed, OSError for a file.
    """
    if name in PACKAGES:
        if library_file(name) is None:
            raise _missing(name)
        return importlib.metadata.version(PACKAGES[name].name)
    state = os.stat(name)
    return f"{state.st_size} bytes of {int(state.st_mtime)}"


_loaded: dict[Path, LlamaLibrary] = {}


def loaded_beside(name: str) -> list[str]:
    """The families of libraries that this process has loaded from other files; they stay loaded."""
    path = _path_of(name)
    return sorted(each.family for other, each in _loaded.items() if other != path)


def open_library(name: str) -> LlamaLibrary:
    """Load the library of a family that is installed, or of a file. A library is loaded once.

    Raises LibraryUnusable in one sentence that says which library, and why.
    """
    path = _path_of(name)
    if path is None:
        raise _missing(name)
    if path not in _loaded:
        _loaded[path] = _open(name, path)
    return _loaded[path]


def _path_of(name: str) -> Path | None:
    path = library_file(name) if name in PACKAGES else Path(name)
    return None if path is None else path.resolve()


def _open(name: str, path: Path) -> LlamaLibrary:
    try:
        library = _load(path)
        family = name if name in PACKAGES else _family_of(library)
        [kind] = (each for each in _FAMILIES if each.family == family)
        return kind(library, library_version(name) if name in PACKAGES else f"of {path.name}")
    except OSError as error:
        raise LibraryUnusable(f"The library {path} cannot be loaded: {error}.") from error
    except LibraryUnusable as error:
        raise LibraryUnusable(
            f"The library {path} cannot be used: {error}. Lockgate knows the interfaces of"
            f" {_releases()}."
        ) from error


def _missing(name: str) -> LibraryUnusable:
    return LibraryUnusable(
        f"{name} is not installed. Install it with: pip install 'lockgate[{PACKAGES[name].extra}]'"
    )


def _releases() -> str:
    return " and ".join(f"{each.name} {each.release}" for each in PACKAGES.values())


def _load(path: Path) -> ctypes.CDLL:
    """With its symbols to itself, so that two families do not take each other's functions."""
    if sys.platform == "win32":
        os.add_dll_directory(str(path.parent))
        return ctypes.CDLL(str(path))
    return ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)


def _family_of(library: ctypes.CDLL) -> str:
    """Of a file that the user names."""
    for family, mark in _MARKS.items():
        if hasattr(library, mark):
            return family
    raise LibraryUnusable("it is no llama.cpp")
