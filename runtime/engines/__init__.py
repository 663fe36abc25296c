"""Engines by name. An engine's module, and what heavy packages it needs, load when asked for."""

from importlib import import_module

from runtime.config.engine import EngineConfig
from runtime.engines.base import Engine, EngineFactory
from runtime.messages.loading import Announce, tell_nobody
from runtime.tokenizers.tokenizer import Tokenizer

_FACTORIES = {
    "llama_cpp": ("runtime.engines.llama_cpp.loading", "create"),
    "scripted": ("runtime.engines.scripted.engine", "ScriptedEngine"),
    "tensorrt_llm": ("runtime.engines.tensorrt_llm.engine", "TensorRTEngine"),
}


def create_engine(
    config: EngineConfig,
    model_path: str,
    tokenizer: Tokenizer,
    announce: Announce = tell_nobody,
) -> Engine:
    """Load the engine that `config.name` asks for, with its model. May take minutes; `announce` is
    told what they are spent on."""
    module, name = _FACTORIES[config.name]
    announce("library")
    factory: EngineFactory = getattr(import_module(module), name)
    return factory(config, model_path, tokenizer, announce)
