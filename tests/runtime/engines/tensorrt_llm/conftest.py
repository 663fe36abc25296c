"""Engines of the package in process, on the double of each release."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import TensorRTConfig
from runtime.engines import create_engine
from runtime.engines.base import Engine
from runtime.tokenizers.load import load_tokenizer
from tests.kit.models.tensorrt_model import write_tensorrt_model
from tests.kit.tensorrt_double import RELEASES, double_of
from tests.runtime.engines.tensorrt_llm.harness import PLAIN, Make


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> Iterator[str]:
    """Imports of tensorrt_llm find the double of this release."""
    with double_of(request.param):
        yield request.param


@pytest.fixture
def make(release: str, tmp_path: Path) -> Iterator[Make]:
    """Makes engines; what is a key of `Plan` goes to the double."""
    engines: list[Engine] = []

    def make_engine(tensorrt: dict[str, Any] | None = None, **options: Any) -> Engine:
        plan = options.pop("plan", PLAIN)
        model_len = options.pop("folder_model_len", 2048)
        folder = write_tensorrt_model(tmp_path / str(len(engines)), max_model_len=model_len, **plan)
        config = EngineConfig(
            name="tensorrt_llm", tensorrt_llm=TensorRTConfig(**(tensorrt or {})), **options
        )
        engines.append(create_engine(config, str(folder), load_tokenizer(folder)))
        return engines[-1]

    yield make_engine
    for engine in engines:
        engine.close()
