"""The header of a LoRA adapter, checked against the model that it is to be added to."""

from collections.abc import Mapping
from typing import TypeAlias

from runtime.errors import ModelFileError, SetupError
from runtime.models.gguf import GGUFFile, TensorInfo, read_gguf

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

_EMBEDDING = "token_embd.weight"
_HALVES = (".lora_a", ".lora_b")
_INVOCATION = "adapter.alora.invocation_tokens"


def read_adapter(path: str, base: GGUFFile) -> GGUFFile:
    """Read the header of an adapter of the model `base`.

    Raises ModelFileError, in one sentence that names the file, for a file that cannot be read, that
    is no adapter, or that is one of another model.
    """
    file = read_gguf(path)
    kinds = file.text("general.type"), file.text("adapter.type")
    if kinds != ("adapter", "lora"):
        raise ModelFileError(
            f"{path}: is no LoRA adapter: `general.type` is {kinds[0]!r} and `adapter.type` is"
            f" {kinds[1]!r}. convert_lora_to_gguf.py of llama.cpp makes one of a PEFT folder."
        )
    if _INVOCATION in file.metadata:
        raise ModelFileError(
            f"{path}: is an activated LoRA (`{_INVOCATION}`), which applies from certain tokens on"
            " only. Adapters here apply to whole requests."
        )
    _check_base(file, base)
    return file


def check_adapters(paths: Mapping[str, str], model_path: str) -> None:
    """Raises SetupError for the first of these adapters, by name, that does not fit the model."""
    base = read_gguf(model_path) if paths else None
    for name, path in paths.items():
        if not name.strip():
            raise SetupError(f"an adapter of {path} has no name; give it one")
        assert base is not None, "there is an adapter"
        try:
            read_adapter(path, base)
        except ModelFileError as error:
            raise SetupError(f"the adapter {name!r}: {error}") from error


def adapted_tensors(file: GGUFFile) -> dict[str, TensorInfo]:
    """The second matrix of each pair, by the tensor of the model that it changes. The first entry
    of its shape is the rank."""
    return {
        each.name.removesuffix(".lora_b"): each
        for each in file.tensors
        if each.name.endswith(".lora_b")
    }


def _check_base(file: GGUFFile, base: GGUFFile) -> None:
    wanted, own = base.text("general.architecture"), file.text("general.architecture")
    if own != wanted:
        raise ModelFileError(
            f"{file.path}: is an adapter of the architecture {own!r}, and the model {base.path} has"
            f" the architecture {wanted!r}."
        )
    shapes = {each.name: each.shape for each in file.tensors}
    bases = {each.name: each.shape for each in base.tensors}
    if not shapes:
        raise ModelFileError(f"{file.path}: has no tensors.")
    in_parts = (base.number("split.count") or 0) > 1  # the other files have the other tensors
    for name in shapes:
        _check_name(file, name, shapes)
        target = name.removesuffix(".lora_a")
        if name.endswith(".lora_a") and not (in_parts and target not in bases):
            _check_pair(file, target, shapes, bases)


def _check_name(file: GGUFFile, name: str, shapes: Shapes) -> None:
    """Refuse what is no half of a pair: llama.cpp leaves such tensors out, without an error."""
    for half, other in (_HALVES, _HALVES[::-1]):
        if name.endswith(half):
            if name.removesuffix(half) + other in shapes:
                return
            raise ModelFileError(f"{file.path}: {name} has no {other.removeprefix('.')} beside it.")
    raise ModelFileError(
        f"{file.path}: the tensor {name} is no part of a LoRA pair, and llama.cpp would leave it"
        " out. Train the adapter without norms and whole layers, or merge it into the model."
    )


def _check_pair(file: GGUFFile, target: str, shapes: Shapes, bases: Shapes) -> None:
    if target not in bases:
        raise ModelFileError(
            f"{file.path}: changes the tensor {target}, which the model has not. Is it an adapter"
            " of another model?"
        )
    first, second = shapes[f"{target}.lora_a"], shapes[f"{target}.lora_b"]
    base = bases[target]
    if not _fits(first, second, base, is_embedding=target == _EMBEDDING):
        raise ModelFileError(
            f"{file.path}: does not fit the model: {target} has the shape {_shown(base)}, and the"
            f" adapter's halves have {_shown(first)} and {_shown(second)}. Is it an adapter of"
            " another model?"
        )


def _fits(
    first: tuple[int, ...], second: tuple[int, ...], base: tuple[int, ...], *, is_embedding: bool
) -> bool:
    if min(len(first), len(second), len(base)) < 2 or first[2:] != base[2:]:
        return False
    if is_embedding:  # rows of tokens are looked up in the first half, and not multiplied
        halves = (first[0], first[1], second[1])
        return halves == (second[0], base[1], base[0])
    return (first[0], first[1], second[1]) == (base[0], second[0], base[1])


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
