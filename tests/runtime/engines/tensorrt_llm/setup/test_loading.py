"""What is looked at before and after the package loads a model."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import LoRAConfig, TensorRTConfig
from runtime.engines.tensorrt_llm.setup.loading import load_model
from tests.kit.models.tensorrt_model import write_tensorrt_model


def warnings_of(folder: Path, adapters: dict[str, str]) -> list[str]:
    """The events that loading the model with these adapters logs as warnings."""
    settings = TensorRTConfig(lora=LoRAConfig(adapters=adapters))
    with capture_logs() as events:
        loaded = load_model(
            EngineConfig(name="tensorrt_llm", tensorrt_llm=settings), str(folder), 2048
        )
    loaded.llm.shutdown()
    return [event["event"] for event in events if event["log_level"] == "warning"]


@pytest.mark.parametrize(
    ("tokenizer", "is_told"), [("same", False), ("other", True), ("none", False)]
)
def test_the_tokenizer_of_a_lone_adapter_is_told_of(
    release: str, tmp_path: Path, tokenizer: str, is_told: bool
) -> None:
    """The package takes it in place of the model's."""
    folder = write_tensorrt_model(tmp_path / "model", max_model_len=2048)
    model_file = folder / "tokenizer.json"
    if not model_file.is_file():
        model_file.write_text("{}")
    lone, other = tmp_path / "lone", tmp_path / "other"
    for adapter in (lone, other):
        adapter.mkdir()
        if tokenizer != "none":
            text = model_file.read_text()
            (adapter / "tokenizer.json").write_text(text + " " * (tokenizer == "other"))

    told = "adapter_brings_a_tokenizer"
    assert (told in warnings_of(folder, {"sql": str(lone)})) == is_told
    assert told not in warnings_of(folder, {"sql": str(lone), "poet": str(other)})
