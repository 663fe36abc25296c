"""LlamaIndex through its class for servers like this one."""

import pytest

pytest.importorskip("llama_index.llms.openai_like")

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from compat_tests.conftest import MODEL

PARIS = [ChatMessage(role="user", content="What is the capital of France? One sentence.")]


class City(BaseModel):
    """A city and the country that it is in."""

    name: str
    country: str


@pytest.fixture
def llm(server):
    return OpenAILike(
        api_base=f"{server.url}/v1",
        api_key="none",
        model=MODEL,
        is_chat_model=True,
        is_function_calling_model=True,
        max_tokens=64,
        temperature=0,
        max_retries=0,
        context_window=4096,
    )


def test_chat_and_stream_say_the_same(llm):
    whole = llm.chat(PARIS).message.content
    parts = [part.delta or "" for part in llm.stream_chat(PARIS)]

    assert "Paris" in whole
    assert "".join(parts) == whole
    assert len(parts) > 3


def test_completion_of_a_text(llm, server):
    plain = OpenAILike(
        api_base=f"{server.url}/v1",
        api_key="none",
        model=MODEL,
        is_chat_model=False,
        max_tokens=6,
        temperature=0,
    )

    assert "a + b" in plain.complete("def add(a, b):\n    return").text


async def _achat(llm):
    return (await llm.achat(PARIS)).message.content


def test_async_chat(llm):
    import asyncio

    assert "Paris" in asyncio.run(_achat(llm))


def test_a_required_tool_is_called(llm):
    def weather(city: str) -> str:
        """Tell the weather in a city."""
        return f"Rain in {city}."

    answer = llm.chat_with_tools(
        [FunctionTool.from_defaults(fn=weather)],
        user_msg="What is the weather in Oslo?",
        tool_required=True,
    )

    (call,) = llm.get_tool_calls_from_response(answer)
    assert call.tool_name == "weather"
    assert set(call.tool_kwargs) == {"city"}


def test_structured_prediction(llm):
    city = llm.as_structured_llm(City).chat(
        [ChatMessage(role="user", content="Describe Paris: name and country.")]
    )

    assert isinstance(city.raw, City)
