"""A conversation to the tokens of its prompt."""

from pathlib import Path
from typing import Any

import pytest

from gateway.api.openai.translate.job import conversation_of
from gateway.generation.prepare import prepare_conversation
from gateway.models.served_model import ServedModel
from gateway.settings.schema import ModelSettings
from runtime.client.engine_client import EngineClient
from runtime.messages.engine import EngineInfo, EngineLimits
from runtime.messages.wire import Ready
from tests.kit.jobs import chat
from tests.kit.models.tensorrt_model import write_tensorrt_model

TEMPLATE = "{{ messages[0].content }}|{{ enable_thinking }}|{{ mood }}|{{ add_generation_prompt }}"
READY = Ready(
    EngineLimits(
        max_model_len=100,
        max_num_seqs=1,
        max_num_waiting=0,
        max_num_batched_tokens=1,
        num_kv_tokens=100,
    ),
    EngineInfo(engine="none", version="1", device="none"),
)


async def prompt_of(folder: Path, **fields: Any) -> str:
    settings = ModelSettings(reasoning_parser="qwen3")
    model = ServedModel("m", EngineClient(), settings)
    model.engine.connected(lambda message: None, READY)
    await model.load(str(folder))
    token_ids, _ = await prepare_conversation(conversation_of(chat(**fields)), model)
    return model.decode(token_ids)


@pytest.mark.anyio
async def test_variables_of_the_client_win_over_those_of_its_effort(tmp_path: Path):
    folder = write_tensorrt_model(tmp_path / "model", chat_template=TEMPLATE)
    kwargs = {"enable_thinking": "maybe", "mood": "glad"}

    assert "hi|True||True" in await prompt_of(folder, reasoning_effort="high")
    both = await prompt_of(folder, reasoning_effort="high", chat_template_kwargs=kwargs)
    assert "hi|maybe|glad|True" in both
    assert "hi|||False" in await prompt_of(folder, add_generation_prompt=False)
