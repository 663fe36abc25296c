"""LangChain's own standard suite for chat models."""

import pytest

pytest.importorskip("langchain_tests")

from langchain_openai import ChatOpenAI
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
