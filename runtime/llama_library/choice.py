"""Which library computes a model: the fastest one that knows it and is right on this processor."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import structlog
from msgspec import Struct

from runtime.errors import LibraryUnusable
from runtime.llama_library.installed import (
    PACKAGES,
    installed_families,
    loaded_beside,
    open_library,
)
from runtime.llama_library.library import LlamaLibrary
from runtime.llama_library.self_check.verdicts import problem_of
from runtime.llama_library.values import ModelOptions, Traits
from runtime.models.gguf import GGUFFile

log = structlog.get_logger(__name__)

_UNKNOWN = "unknown model architecture"
"""What both families say of a file whose architecture they do not know."""


class Wish(Struct, frozen=True, kw_only=True):
    """What a library must do. `library` is "auto", "cautious", a family or the path of a file. True
    stands for what was asked for in so many words; what may be left out is not mentioned.
    `adapters` are the headers of LoRA adapters."""

    library: str = "auto"
    num_gpu_layers: int = 0
    flash_attention: bool = False
    repack_tensors: bool = False
    use_extra_bufts: bool = False
    adapters: tuple[GGUFFile, ...] = ()


def usable_libraries(
    wish: Wish, file: GGUFFile, problem: Callable[[str], str] = problem_of
) -> Iterator[LlamaLibrary]:
    """The libraries that can compute a model file as wished, the best first. Each is loaded when it
    is asked for. `problem` says what is wrong with a library on this machine.

    Raises LibraryUnusable, which says why, if there is none.
    """
    names = _candidates(wish)
    reasons: list[str] = []
    for name in names:
        try:
            library = _suitable(name, wish, file, problem)
        except LibraryUnusable as error:
            reasons.append(str(error))
            if len(names) > 1:
                log.warning("llama_library_passed_over", library=name, reason=str(error))
            continue
        yield library
        reasons.append("")
    if all(reasons):
        raise LibraryUnusable(" ".join(reasons) + _advice(wish))


def _candidates(wish: Wish) -> list[str]:
    """Names of libraries in the order in which they are tried."""
    if wish.library not in ("auto", "cautious"):
        return [wish.library]
    families = installed_families()
    if not families:
        raise LibraryUnusable(
            "No llama.cpp library is installed. Install one with: pip install 'lockgate[cpu]'"
        )
    return families if wish.library == "auto" else families[::-1]


def _suitable(name: str, wish: Wish, file: GGUFFile, problem: Callable[[str], str]) -> LlamaLibrary:
    if sys.platform == "win32" and (others := loaded_beside(name)):
        raise LibraryUnusable(
            f"{name} cannot be loaded beside {' and '.join(others)}. Set"
            f' engine.llama_cpp.library = "{name}" or uninstall the other.'
        )
    if reason := problem(name):
        raise LibraryUnusable(reason)
    library = open_library(name)
    architecture = file.text("general.architecture")
    reason = obstacle(library.traits, wish)
    if not reason and not knows_architecture(library, architecture):
        reason = f"does not know the architecture {architecture!r}"
    if not reason and file.ranks and not library.traits.can_rank:
        reason = "does not rank texts, and this model does nothing else"
    reason = reason or library.objection(file)
    reason = reason or next(filter(None, map(library.adapter_objection, wish.adapters)), "")
    if reason:
        raise LibraryUnusable(f"The library {name} {reason}.")
    return library


def obstacle(traits: Traits, wish: Wish) -> str:
    """Why a library cannot do what is wished, in words that follow its name; empty if it can."""
    if wish.num_gpu_layers and not traits.can_fill_gpus:
        return "is not used with GPUs here (engine.llama_cpp.num_gpu_layers)"
    if wish.flash_attention and not traits.has_flash_attention:
        return (
            "has no flash attention for several sequences, which engine.llama_cpp.kv_cache_dtype"
            " other than f16 and engine.llama_cpp.flash_attention = true need"
        )
    if wish.repack_tensors and not traits.can_repack:
        return "does not repack all tensors (engine.llama_cpp.repack_tensors = true)"
    if wish.use_extra_bufts and not traits.has_extra_bufts:
        return "has no extra buffer types (engine.llama_cpp.use_extra_bufts = true)"
    return ""


def knows_architecture(library: LlamaLibrary, architecture: str) -> bool:
    """Whether a library knows an architecture: it is asked to load a file that has nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "architecture.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        model = library.load_model(str(path), ModelOptions(vocab_only=True))
    if model is not None:
        library.free_model(model)
        return True
    return _UNKNOWN not in library.last_messages()


def _advice(wish: Wish) -> str:
    """What to install, where another library than those might do."""
    installed = installed_families()
    missing = [each for family, each in PACKAGES.items() if family not in installed]
    if wish.library not in ("auto", "cautious"):
        return ' Set engine.llama_cpp.library = "auto" to let another installed library do it.'
    if not missing:
        return ""
    return f" Another library may do it: pip install 'lockgate[{missing[0].extra}]'"
