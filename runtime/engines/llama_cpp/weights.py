"""A model file that llama.cpp has loaded: weights, vocabulary, metadata. Contexts stand on it."""

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any, cast

import llama_cpp

from runtime.config.engine import EngineConfig
from runtime.errors import ModelFileError
from runtime.hardware.allowance import cores_allowed, memory_allowed
from runtime.messages.engine import EngineInfo

LOG_LEVEL_ERROR = 4
"""GGML_LOG_LEVEL_ERROR of ggml.h."""

_messages: list[str] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    if level == LOG_LEVEL_ERROR:
        _messages.append(text.decode(errors="replace").strip())
        del _messages[:-5]


def last_messages() -> list[str]:
    """The last errors that llama.cpp has logged, at most five."""
    return list(_messages)


class LlamaWeights:
    """A loaded model. Not thread-safe. Contexts are closed before it.

    `memory_left` is what may be used beside the weights, in bytes. `on_progress` is told the share
    that has been read, 0 to 1.
    Raises ModelFileError when llama.cpp cannot load the file.
    """

    def __init__(
        self,
        config: EngineConfig,
        model_path: str,
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._started = time.monotonic()
        llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.num_threads = _num_threads(config)
        self._num_gpu_layers = config.llama_cpp.num_gpu_layers
        available = memory_allowed().available
        self.model = _load(config, model_path, on_progress)
        # read before, because pages of a mapped file count as available and are needed all the time
        self.memory_left = max(0, available - self._bytes_in_memory())
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.num_vocab: int = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def _bytes_in_memory(self) -> int:
        """The size of the weights that are not on a GPU."""
        num_layers: int = llama_cpp.llama_model_n_layer(self.model)
        on_gpu = min(self._num_gpu_layers / num_layers, 1.0)
        return int(llama_cpp.llama_model_size(self.model) * (1 - on_gpu))

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
        buffer = ctypes.create_string_buffer(256)
        size = llama_cpp.llama_model_meta_val_str(
            self.model, key.encode(), buffer, ctypes.sizeof(buffer)
        )
        return buffer.value.decode(errors="replace") if size >= 0 else ""

    def describe(self) -> EngineInfo:
        """What runs here, for logs and `/health`; it has been loading until now."""
        return EngineInfo(
            engine="llama_cpp",
            version=llama_cpp.__version__,
            device="cpu" if not self._num_gpu_layers else f"gpu ({self._num_gpu_layers} layers)",
            num_threads=self.num_threads,
            load_seconds=time.monotonic() - self._started,
        )

    def close(self) -> None:
        """Free the weights."""
        llama_cpp.llama_model_free(self.model)


def _load(
    config: EngineConfig, model_path: str, on_progress: Callable[[float], None]
) -> ctypes.c_void_p:
    params = llama_cpp.llama_model_default_params()
    params.progress_callback = _each_percent(on_progress)
    params.n_gpu_layers = config.llama_cpp.num_gpu_layers
    params.use_extra_bufts = config.llama_cpp.use_extra_bufts is not False
    model = llama_cpp.llama_model_load_from_file(os.fsencode(model_path), params)
    if not model:
        detail = " ".join(_messages) or "llama.cpp gave no reason."
        raise ModelFileError(f"llama.cpp cannot load {model_path}: {detail}")
    return cast(ctypes.c_void_p, model)


def _each_percent(on_progress: Callable[[float], None]) -> Any:
    """A callback for llama.cpp that goes on loading and tells of each percent once."""
    told = -1

    def on_share(share: float, _user_data: ctypes.c_void_p) -> bool:
        nonlocal told
        if (percent := int(100 * share)) > told:
            told = percent
            on_progress(share)
        return True

    return llama_cpp.llama_progress_callback(on_share)


def _num_threads(config: EngineConfig) -> int:
    if config.llama_cpp.num_threads != "auto":
        return config.llama_cpp.num_threads
    return cores_allowed().num_threads
