"""Whether another model fits into the memory, beside those that are loaded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import psutil
from msgspec import Struct

from gateway.models.manager.gpu_memory import is_on_gpu
from gateway.models.manager.spec import ModelSpec
from runtime.errors import LockgateError
from runtime.hardware.allowance import memory_allowed
from runtime.models.gguf import read_gguf
from runtime.planning.gguf_shape import shape_of_gguf

OWN_BYTES = 250_000_000
"""What an engine needs beside weights and cache: libraries, vocabulary, logits, grammars."""

CACHE_TOKENS = 32_768
"""Tokens of a KV cache whose size is left to the engine, at most."""


class Need(Struct, frozen=True, kw_only=True):
    """What a model needs, in bytes of main memory and of the GPUs' memory."""

    ram: int
    gpu: int = 0


class Footprint(Struct, frozen=True, kw_only=True):
    """What a model that is loaded, or loads, needs of main memory, and what of that it has taken
    for itself alone, so that the system no longer counts it as free. Pages of mapped weights are
    needed and count as free. `gpu_to_take` is what it still wants of the GPUs. In bytes."""

    needed: int
    taken: int = 0
    gpu_to_take: int = 0


class Memory(Protocol):
    """The memory that models share. Its methods may take milliseconds: call them in a thread."""

    def estimate(self, spec: ModelSpec) -> Need:
        """What a model will need that has never been loaded here."""
        ...

    def footprint(self, pid: int) -> Footprint | None:
        """What an engine's process uses; None if it is gone."""
        ...

    def missing(self, need: Need, loaded: Sequence[Footprint]) -> int:
        """Bytes that are missing for another model beside the loaded ones; 0 or less if it fits."""
        ...


class MachineMemory:
    """The memory of this machine. All models together may need `limit` bytes of main memory; None
    means whatever is free. `gpu_free` reads what the GPUs have left, None if nobody knows."""

    def __init__(
        self,
        limit: int | None,
        free: Callable[[], int] = lambda: memory_allowed().available,
        gpu_free: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.limit = limit
        self._free = free
        self._gpu_free = gpu_free

    def estimate(self, spec: ModelSpec) -> Need:
        weights, cache = _weights(Path(spec.path)), _cache(spec)
        if is_on_gpu(spec):
            return Need(ram=spec.memory_bytes or OWN_BYTES, gpu=weights + cache)
        copies = 2 if _repacks(spec) else 1  # the mapped file, and its weights in another order
        return Need(ram=spec.memory_bytes or OWN_BYTES + copies * weights + cache)

    def footprint(self, pid: int) -> Footprint | None:
        try:
            root = psutil.Process(pid)
            infos = [each.memory_info() for each in (root, *root.children(recursive=True))]
        except psutil.Error:
            return None
        resident = sum(info.rss for info in infos)
        mapped = sum(getattr(info, "shared", 0) for info in infos)  # Linux alone tells
        return Footprint(needed=resident, taken=max(resident - mapped, 0))

    def missing(self, need: Need, loaded: Sequence[Footprint]) -> int:
        return max(self._missing_ram(need, loaded), self._missing_on_gpus(need, loaded))

    def _missing_ram(self, need: Need, loaded: Sequence[Footprint]) -> int:
        if self.limit is not None:
            return need.ram + sum(each.needed for each in loaded) - self.limit
        yet_to_take = sum(max(each.needed - each.taken, 0) for each in loaded)
        return need.ram + yet_to_take - self._free()

    def _missing_on_gpus(self, need: Need, loaded: Sequence[Footprint]) -> int:
        if not need.gpu or (free := self._gpu_free()) is None:
            return 0
        return need.gpu + sum(each.gpu_to_take for each in loaded) - free


def _weights(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.glob("*.safetensors"))
    return path.stat().st_size if path.is_file() else 0


def _repacks(spec: ModelSpec) -> bool:
    """Whether the engine may arrange the weights anew for the processor."""
    return spec.engine.name == "llama_cpp" and spec.engine.llama_cpp.repack_tensors is not False


def _cache(spec: ModelSpec) -> int:
    """The KV cache of a GGUF file's engine; 0 where the file does not say how large it gets."""
    path, engine = Path(spec.path), spec.engine
    if spec.engine.name != "llama_cpp" or not path.is_file():
        return 0
    try:
        shape = shape_of_gguf(read_gguf(path), spec.name)
    except LockgateError:
        return 0
    wanted = [engine.num_kv_tokens, engine.max_model_len]
    chosen = next((tokens for tokens in wanted if tokens != "auto"), None)
    tokens = min(shape.max_model_len, CACHE_TOKENS) if chosen is None else chosen
    return 2 * shape.kv_width * shape.num_layers * tokens
