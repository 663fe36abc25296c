"""Engines by name. An engine's module, and what heavy packages it needs, load when asked for."""

from importlib import import_module

import msgspec

from runtime.config.engine import EngineConfig
from runtime.engines.base import Engine, EngineFactory
from runtime.tokenizers.tokenizer import Tokenizer

_FACTORIES = {
    "llama_cpp": ("runtime.engines.llama_cpp.loading", "create"),
    "scripted": ("runtime.engines.scripted.engine", "ScriptedEngine"),
    "tensorrt_llm": ("runtime.engines.tensorrt_llm.engine", "TensorRTEngine"),
}


def create_engine(config: EngineConfig, model_path: str, tokenizer: Tokenizer) -> Engine:
    """Load the engine that `config.name` asks for, with its model. May take minutes."""
    module, name = _FACTORIES[config.name]
    factory: EngineFactory = getattr(import_module(module), name)
    return factory(config, model_path, tokenizer)


def engine_environment(config: EngineConfig) -> dict[str, str]:
    """Environment variables that an engine's process needs; the user's own take precedence."""
    if config.name == "llama_cpp":
        # Threads that wait for each other spin for a moment, then sleep. With OpenMP's own default
        # they spin until their time slice ends, and a step takes three times as long as soon as
        # another process wants a core (docs/performance.md).
        return {"GOMP_SPINCOUNT": "5000"}
    return {}


def cautious(config: EngineConfig) -> EngineConfig | None:
    """The settings to try after an engine died of a signal while it loaded; None if there are
    none. Kernels for the newest instruction sets are the usual cause: a virtual machine may show
    AMX and not carry it."""
    if config.name != "llama_cpp" or config.llama_cpp.use_extra_bufts != "auto":
        return None
    llama_cpp = msgspec.structs.replace(config.llama_cpp, use_extra_bufts=False)
    return msgspec.structs.replace(config, llama_cpp=llama_cpp)
