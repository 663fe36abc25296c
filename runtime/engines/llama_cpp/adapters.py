"""The LoRA adapters of a loaded model, by name."""

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from runtime.config.llama_cpp import LoRAAdapter
from runtime.engines.llama_cpp.weights import LlamaWeights
from runtime.errors import EngineError, InvalidRequest, ModelFileError
from runtime.messages.request import Request
from runtime.models.adapters.lora_file import read_adapter


class _Loaded(Struct, frozen=True):
    """`address` is in the library's memory. `content` tells it from all others, also from another
    one that had its name before."""

    address: int
    scale: float
    content: str


class LlamaAdapters:
    """Adapters over weights that are loaded, one of which a context uses at a time. Not
    thread-safe. What is not unloaded is freed with the weights."""

    def __init__(self, weights: LlamaWeights) -> None:
        self._weights = weights
        self._library = weights.library
        self._loaded: dict[str, _Loaded] = {}
        self._used = ""

    def load(self, name: str, adapter: LoRAAdapter) -> None:
        """Load an adapter. Raises ModelFileError, in a sentence that names the file, for one that
        the library cannot add to this model."""
        assert name not in self._loaded, "an adapter is loaded once: this is a bug"
        path, library = adapter.path, self._library
        file = read_adapter(path, self._weights.file)
        if reason := library.adapter_objection(file):
            raise ModelFileError(f"{path}: {library.family} {reason}.")
        content = _content(path)
        address = library.load_adapter(self._weights.model, path)
        if not address:
            detail = library.last_messages() or f"{library.family} gave no reason."
            raise ModelFileError(f"{path}: {library.family} cannot load this adapter: {detail}")
        self._loaded[name] = _Loaded(address, adapter.scale, f"{content}*{adapter.scale:g}")

    def unload(self, context: int, name: str) -> None:
        """Free an adapter that no sequence needs any more; an unknown name is ignored."""
        adapter = self._loaded.pop(name, None)
        if adapter is None:
            return
        if self._used == name:
            self.use(context, "")
        self._library.free_adapter(adapter.address)

    def use(self, context: int, name: str) -> None:
        """Add an adapter to all batches of the context that follow; "" adds none. Raises
        EngineError if the library fails."""
        if name == self._used:
            return
        adapter = self._loaded[name] if name else _Loaded(0, 0.0, "")
        if not self._library.use_adapter(context, adapter.address, adapter.scale):
            raise EngineError(f"llama.cpp did not take the adapter {name!r}.")
        self._used = name

    def check(self, request: Request) -> None:
        """Raises InvalidRequest for an adapter that is not loaded."""
        if request.lora and request.lora not in self._loaded:
            raise InvalidRequest(
                f"There is no adapter {request.lora!r} here.", param="model", code="model_not_found"
            )

    def salt(self, request: Request) -> str:
        """What keeps a request's prefixes from those of others: its own salt, and the content of
        its adapter, which computes other keys and values."""
        adapter = self._loaded.get(request.lora)
        if adapter is None:
            return request.cache_salt
        parts = [["lora", adapter.content], request.cache_salt]
        return msgspec.json.encode(parts).decode()


def _content(path: str) -> str:
    """What tells the file's content from every other."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from error
