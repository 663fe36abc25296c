"""OpenAI's Agents SDK over chat completions and over responses, which it takes by default; its
sessions over conversations."""

import asyncio

import pytest

pytest.importorskip("agents")

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
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


def texts(items):
    return [item["content"][0]["text"] for item in items]


@pytest.fixture
def session(server):
    client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    return OpenAIConversationsSession(openai_client=client)


def test_a_session_keeps_items(session):
    """More than one request may add; the last one comes off again."""
    sent = [{"role": "user", "content": f"word {number}"} for number in range(45)]

    async def story():
        await session.add_items(sent)
        everything = await session.get_items()
        newest = await session.get_items(limit=3)
        popped = await session.pop_item()
        left = await session.get_items()
        await session.clear_session()
        return everything, newest, popped, left, await session.get_items(), session.session_id

    everything, newest, popped, left, cleared, _ = asyncio.run(story())

    assert texts(everything) == [item["content"] for item in sent]
    assert newest == everything[-3:]
    assert popped == everything[-1]
    assert left == everything[:-1]
    assert cleared == []


def test_two_turns_of_a_session(server, session):
    """The second turn knows the first, which the server has kept."""
    client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    model = OpenAIResponsesModel(model=MODEL, openai_client=client)
    settings = ModelSettings(temperature=0, max_tokens=256)
    agent = Agent(name="guide", instructions="Be short.", model=model, model_settings=settings)

    async def story():
        first = await Runner.run(agent, "What is the capital of France?", session=session)
        second = await Runner.run(agent, "And what is its river?", session=session)
        return first, second, await session.get_items()

    first, second, items = asyncio.run(story())

    used = [run.raw_responses[0].usage.input_tokens for run in (first, second)]
    assert [item["role"] for item in items] == ["user", "assistant"] * 2
    assert "Paris" in texts(items)[1]
    assert texts(items)[3] == second.final_output
    assert used[1] > used[0]


def test_two_turns_of_a_conversation(server):
    """The client sends what is new alone, and the server puts the rest before it."""
    client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    model = OpenAIResponsesModel(model=MODEL, openai_client=client)
    settings = ModelSettings(temperature=0, max_tokens=256)
    agent = Agent(name="guide", instructions="Be short.", model=model, model_settings=settings)

    async def story():
        made = await client.conversations.create()
        runs = [
            await Runner.run(agent, question, conversation_id=made.id)
            for question in ("What is the capital of France?", "And what is its river?")
        ]
        page = client.conversations.items.list(made.id, order="asc")
        return runs, [item async for item in page]

    runs, items = asyncio.run(story())

    used = [run.raw_responses[0].usage.input_tokens for run in runs]
    assert used[1] > used[0]
    assert [item.role for item in items] == ["user", "assistant"] * 2
    assert [items[1].content[0].text, items[3].content[0].text] == [
        run.final_output for run in runs
    ]
