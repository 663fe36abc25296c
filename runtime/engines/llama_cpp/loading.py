"""The engine that fits a model file."""

from runtime.config.engine import EngineConfig
from runtime.engines.base import Engine
from runtime.engines.llama_cpp.embedding.encoder import EncoderEngine
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.engines.llama_cpp.weights import load_weights
from runtime.tokenizers.tokenizer import Tokenizer


def create(config: EngineConfig, model_path: str, tokenizer: Tokenizer) -> Engine:
    """Load a model. Raises ModelFileError, SetupError."""
    weights = load_weights(config, model_path)
    if weights.is_causal:
        return LlamaCppEngine(config, model_path, tokenizer, weights)
    return EncoderEngine(config, weights)
