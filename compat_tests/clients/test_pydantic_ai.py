"""pydantic-ai: text, structured outputs and tools of an agent."""

import asyncio

import pytest

pytest.importorskip("pydantic_ai")

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from compat_tests.conftest import MODEL


class City(BaseModel):
    """A city and its country."""

    name: str
    country: str


@pytest.fixture
def model(server):
    return OpenAIChatModel(
        MODEL, provider=OpenAIProvider(base_url=f"{server.url}/v1", api_key="none")
    )


SETTINGS = {"temperature": 0, "max_tokens": 64}


def test_text(model):
    result = Agent(model).run_sync("What is the capital of France?", model_settings=SETTINGS)

    assert "Paris" in result.output
    assert result.usage.output_tokens > 0


@pytest.mark.parametrize("output", [ToolOutput, NativeOutput])
def test_structured_output(model, output):
    agent = Agent(model, output_type=output(City))

    result = agent.run_sync("Describe Paris: name and country.", model_settings=SETTINGS)

    assert isinstance(result.output, City)


def test_streamed_text(model):
    async def parts():
        async with Agent(model).run_stream(
            "What is the capital of France?", model_settings=SETTINGS
        ) as result:
            return [part async for part in result.stream_text(delta=True, debounce_by=None)]

    assert "Paris" in "".join(asyncio.run(parts()))
