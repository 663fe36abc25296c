"""A model file that llama.cpp has loaded: weights, vocabulary, metadata. Contexts stand on it."""

import time
from collections.abc import Callable

import msgspec
import structlog

from runtime.config.engine import EngineConfig
from runtime.errors import ModelFileError, SetupError
from runtime.hardware.allowance import cores_allowed, memory_allowed
from runtime.llama_library.choice import Wish, usable_libraries
from runtime.llama_library.library import LlamaLibrary
from runtime.llama_library.values import LoadedModel, ModelOptions
from runtime.messages.engine import EngineInfo
from runtime.models.adapters.lora_file import read_adapter
from runtime.models.gguf import GGUFFile, read_whole_gguf

log = structlog.get_logger(__name__)

REPACKING_MEMORY = 2
"""How many times the size of a model file must be available for "auto" to repack its weights: they
then are in memory of the process's own, and the file may still be in the kernel's cache."""


class LlamaWeights:
    """A loaded model. Not thread-safe. Contexts are closed before it.

    `memory_left` is what may be used beside the weights, in bytes. `file` is the file's header,
    with its `pooling_type` and `ranks`. `on_progress` is told the share that has been read, 0 to 1.
    Raises ModelFileError when llama.cpp cannot load the file.
    """

    def __init__(
        self,
        config: EngineConfig,
        file: GGUFFile,
        library: LlamaLibrary,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._started = time.monotonic()
        self.library = library
        self.file = file
        self.num_threads = _num_threads(config)
        self._num_gpu_layers = config.llama_cpp.num_gpu_layers
        available = memory_allowed().available
        self.model = _load(library, config, file, available, on_progress)
        self.shape = self.library.shape(self.model)
        self.file = file
        self.pooling_type = file.pooling_type
        self.ranks = file.ranks
        # read before, because pages of a mapped file count as available and are needed all the time
        self.memory_left = max(0, available - self._bytes_in_memory())

    def _bytes_in_memory(self) -> int:
        """The size of the weights that are not on a GPU."""
        on_gpu = min(self._num_gpu_layers / self.shape.num_layers, 1.0)
        return int(self.shape.num_bytes * (1 - on_gpu))

    @property
    def architecture(self) -> str:
        """Such as "llama" or "bert"."""
        return self.metadata("general.architecture")

    @property
    def is_causal(self) -> bool:
        """Whether a token attends only to earlier tokens, as in every generative model. The files
        of encoders for embeddings say that their tokens attend to all tokens."""
        return self.metadata(f"{self.architecture}.attention.causal") != "false"

    def metadata(self, key: str) -> str:
        """A number, flag or text of the file's metadata as text; "" if it is absent."""
        return self.library.metadata(self.model, key)

    def describe(self) -> EngineInfo:
        """What runs here, for logs and `/health`; it has been loading until now."""
        return EngineInfo(
            engine="llama_cpp",
            version=f"{self.library.family} {self.library.version}",
            device="cpu" if not self._num_gpu_layers else f"gpu ({self._num_gpu_layers} layers)",
            num_threads=self.num_threads,
            load_seconds=time.monotonic() - self._started,
        )

    def close(self) -> None:
        """Free the weights."""
        self.library.free_model(self.model)


def _load(
    library: LlamaLibrary,
    config: EngineConfig,
    file: GGUFFile,
    available: int,
    on_progress: Callable[[float], None],
) -> LoadedModel:
    settings = config.llama_cpp
    fits = REPACKING_MEMORY * file.file_size <= available
    repacks = library.traits.can_repack and settings.repack_tensors == "auto" and fits
    options = ModelOptions(
        num_gpu_layers=settings.num_gpu_layers,
        use_extra_bufts=settings.use_extra_bufts is not False,
        repack_tensors=repacks or settings.repack_tensors is True,
    )
    model = library.load_model(file.path, options, _each_percent(on_progress), file)
    if model is None:
        detail = library.last_messages() or f"{library.family} gave no reason."
        raise ModelFileError(f"{library.family} cannot load {file.path}: {detail}")
    return model


def _each_percent(on_progress: Callable[[float], None]) -> Callable[[float], None]:
    """Tells of each percent once."""
    told = -1

    def on_share(share: float) -> None:
        nonlocal told
        if (percent := int(100 * share)) > told:
            told = percent
            on_progress(share)

    return on_share


def _num_threads(config: EngineConfig) -> int:
    if config.llama_cpp.num_threads != "auto":
        return config.llama_cpp.num_threads
    return cores_allowed().num_threads


def load_weights(
    config: EngineConfig, model_path: str, on_progress: Callable[[float], None] = lambda _: None
) -> LlamaWeights:
    """Load a model file with the best library that can; `on_progress` gets the share that is
    there. Raises ModelFileError, SetupError."""
    refused: ModelFileError | None = None
    file = read_whole_gguf(model_path)
    files = config.llama_cpp.lora.files.values()
    adapters = tuple(read_adapter(each.path, file) for each in files)
    wish = msgspec.structs.replace(library_wish(config), adapters=adapters)
    for library in usable_libraries(wish, file):
        try:
            weights = LlamaWeights(config, file, library, on_progress)
        except ModelFileError as error:
            refused = error
            log.warning("llama_library_refuses_model", library=library.family, reason=str(error))
            continue
        return weights
    assert refused is not None, "usable_libraries gives one or raises"
    raise refused


def library_wish(config: EngineConfig) -> Wish:
    """What these settings ask of a library. Raises SetupError for settings that contradict each
    other."""
    settings = config.llama_cpp
    if settings.kv_cache_dtype != "f16" and settings.flash_attention is False:
        raise SetupError(
            f"engine.llama_cpp.kv_cache_dtype = {settings.kv_cache_dtype!r} needs flash attention,"
            " and engine.llama_cpp.flash_attention is false. Change the one or the other."
        )
    return Wish(
        library=settings.library,
        num_gpu_layers=settings.num_gpu_layers,
        flash_attention=settings.flash_attention is True or settings.kv_cache_dtype != "f16",
        repack_tensors=settings.repack_tensors is True,
        use_extra_bufts=settings.use_extra_bufts is True,
    )
