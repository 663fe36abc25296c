"""OpenAI's Agents SDK over chat completions and over responses, which it takes by default."""

import asyncio

import pytest

pytest.importorskip("agents")

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

from compat_tests.conftest import MODEL

set_tracing_disabled(True)


class City(BaseModel):
    """A city and its country."""

    name: str
    country: str


@pytest.fixture(params=[OpenAIChatCompletionsModel, OpenAIResponsesModel])
def model(server, request):
    client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    return request.param(model=MODEL, openai_client=client)


SETTINGS = ModelSettings(temperature=0, max_tokens=64)


def test_text(model):
    agent = Agent(name="guide", instructions="Be short.", model=model, model_settings=SETTINGS)

    result = asyncio.run(Runner.run(agent, "What is the capital of France?"))

    assert "Paris" in result.final_output


def test_structured_output(model):
    agent = Agent(name="guide", model=model, model_settings=SETTINGS, output_type=City)

    result = asyncio.run(Runner.run(agent, "Describe Paris: name and country."))

    assert isinstance(result.final_output, City)


def test_a_required_tool_is_called_and_its_result_read(model):
    asked = []

    @function_tool
    def weather(city: str) -> str:
        """Tell the weather in a city."""
        asked.append(city)
        return "It rains."

    settings = ModelSettings(temperature=0, max_tokens=64, tool_choice="required")
    caller = Agent(
        name="guide",
        model=model,
        model_settings=settings,
        tools=[weather],
        tool_use_behavior="stop_on_first_tool",
    )
    reader = Agent(name="guide", model=model, model_settings=SETTINGS)

    async def both():
        """A model as small as this calls again and again as long as it may."""
        called = await Runner.run(caller, "What is the weather in Oslo?")
        history = [*called.to_input_list(), {"role": "user", "content": "Do I need an umbrella?"}]
        return called, await Runner.run(reader, history)

    called, read = asyncio.run(both())

    assert len(asked) >= 1
    assert called.final_output == "It rains."
    assert isinstance(read.final_output, str)
    assert read.final_output


def test_events_of_a_stream(model):
    async def kinds():
        agent = Agent(name="guide", model=model, model_settings=SETTINGS)
        result = Runner.run_streamed(agent, "What is the capital of France?")
        return [event.type async for event in result.stream_events()], result.final_output

    events, text = asyncio.run(kinds())
    assert events.count("raw_response_event") > 3
    assert "Paris" in text
