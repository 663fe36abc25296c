"""LangChain's own standard suite for chat models."""

import pytest

pytest.importorskip("langchain_tests")

from langchain_core.exceptions import ContextOverflowError
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests

from compat_tests.conftest import MODEL


class TestChatOpenAI(ChatModelIntegrationTests):
    """Six tests are skipped. Five give the model pictures, sound and PDF files, from users and from
    tools; it reads text. `test_stream_time` plays recorded answers back, without a server, to
    measure LangChain itself."""

    @pytest.fixture(autouse=True)
    def _address(self, server):
        self._url = f"{server.url}/v1"

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {
            "base_url": self._url,
            "api_key": "none",
            "model": MODEL,
            "max_tokens": 200,
            "frequency_penalty": 0.5,
            "temperature": 0,
            "max_retries": 0,
            "stream_usage": True,
        }

    @property
    def model_override_value(self):
        return MODEL

    @property
    def supports_json_mode(self):
        return True

    @property
    def has_tool_choice(self):
        return True

    @property
    def supports_anthropic_inputs(self):
        return True


def test_responses(server):
    """The same over /v1/responses: words, a stream, a call, an answer with a schema."""
    model = ChatOpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        model=MODEL,
        temperature=0,
        max_tokens=64,
        use_responses_api=True,
    )
    asked = "What is the capital of France?"
    answer = model.invoke(asked)
    assert "Paris" in answer.text
    assert answer.usage_metadata["total_tokens"] > 0
    chunks = list(model.stream(asked))
    assert "".join(chunk.text for chunk in chunks) == answer.text
    assert len(chunks) > 3
    schema = {
        "title": "City",
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool = {"name": "look_up", "description": "Looks a city up.", "parameters": schema}
    calling = model.bind_tools([tool], tool_choice="look_up")
    [call] = calling.invoke(asked).tool_calls
    assert (call["name"], set(call["args"])) == ("look_up", {"city"})
    structured = model.with_structured_output(schema, method="json_schema")
    assert set(structured.invoke(asked)) == {"city"}


def test_embeddings(server):
    """The default model is none for embeddings, so that only what must hold of any is asked."""
    model = OpenAIEmbeddings(
        base_url=f"{server.url}/v1", api_key="none", model=MODEL, check_embedding_ctx_length=False
    )
    cat, dog, again = model.embed_documents(["A cat sleeps.", "Shares fell.", "A cat sleeps."])
    assert sum(x * x for x in cat) == pytest.approx(1, abs=1e-3)
    assert cat == pytest.approx(again, abs=0.02)
    assert model.embed_query("A cat sleeps.") == pytest.approx(cat, abs=0.02)
    assert sum(x * y for x, y in zip(cat, dog, strict=True)) < 0.99


def test_a_prompt_that_is_too_long(server):
    """LangChain's fallbacks and trimming start at this exception alone."""
    model = ChatOpenAI(base_url=f"{server.url}/v1", api_key="none", model=MODEL, max_retries=0)

    for stops in (
        lambda: model.invoke("word " * 40_000),
        lambda: list(model.stream("word " * 40_000)),
    ):
        with pytest.raises(ContextOverflowError):
            stops()
