"""The engine that fits a model file."""

from functools import partial

from runtime.config.engine import EngineConfig
from runtime.engines.base import Engine
from runtime.engines.llama_cpp.embedding.encoder import EncoderEngine
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.engines.llama_cpp.weights import load_weights
from runtime.errors import SetupError
from runtime.messages.loading import Announce, tell_nobody
from runtime.tokenizers.tokenizer import Tokenizer


def create(
    config: EngineConfig,
    model_path: str,
    tokenizer: Tokenizer,
    announce: Announce = tell_nobody,
) -> Engine:
    """Load a model. Raises ModelFileError, SetupError."""
    announce("weights")
    weights = load_weights(config, model_path, partial(announce, "weights"))
    announce("warm_up")
    if weights.is_causal and not weights.ranks:
        return LlamaCppEngine(config, model_path, tokenizer, weights)
    if config.llama_cpp.lora.is_used:
        raise SetupError(
            "engine.llama_cpp.lora: this model makes embeddings and does nothing else, and adapters"
            " are for models that generate. Leave them out."
        )
    return EncoderEngine(config, weights)
