"""A split model file in the real engine."""

from pathlib import Path

import pytest

from runtime.config.engine import EngineConfig
from runtime.engines.llama_cpp.weights import load_weights
from runtime.errors import ModelFileError
from tests.kit.engines import ONE_THREAD, needs_llama_library
from tests.kit.models.split import split_gguf


def test_all_parts_are_loaded_and_a_missing_one_is_named(tiny_model_path: Path, tmp_path: Path):
    needs_llama_library()
    config = EngineConfig(llama_cpp=ONE_THREAD)
    parts = split_gguf(tiny_model_path, tmp_path)
    sizes = []
    for path in (tiny_model_path, parts[0]):
        weights = load_weights(config, str(path))
        sizes.append(weights.shape.num_bytes)
        weights.close()
    assert sizes[0] == sizes[1]
    parts[-1].unlink()
    with pytest.raises(ModelFileError, match=parts[-1].name):
        load_weights(config, str(parts[0]))
