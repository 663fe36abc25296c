"""Servers whose models write arguments as text between tags."""

from typing import Any

import pytest

from tests.kit.chat.answers import CHAT, HI, good, streamed_messages, whole_messages
from tests.kit.chat.tools import TOOLS, check_calls
from tests.kit.engines import needs_llama_library
from tests.kit.serving import (
    RunningServer,
    running_server,
    scripted_settings,
    server_of,
    tiny_settings,
)

CALL = (
    "<tool_call>\n<function=toss>\n<parameter=sure>\nTrue\n</parameter>\n</function>\n</tool_call>"
)
SCRIPT = f" Well... {CALL}"

scripted = server_of(
    scripted_settings(
        model={"tool_dialect": "qwen3_coder"}, text=SCRIPT, num_tokens=2 * len(SCRIPT)
    )
)


@pytest.mark.parametrize("logprobs", [False, True])
def test_calls_that_the_model_chooses_to_make(scripted: RunningServer, logprobs: bool) -> None:
    body = {"messages": HI, "tools": TOOLS, "logprobs": logprobs}
    [told] = whole_messages(good(scripted.post(CHAT, **body)))
    assert streamed_messages(scripted.chunks(CHAT, **body)) == [told]
    assert told["tool_calls"][0] == {"name": "toss", "arguments": '{"sure": true}'}
    assert told["finish_reason"] == "tool_calls"
    assert "Well..." in told["content"]


@pytest.mark.parametrize("name", ["qwen3_coder", "seed_oss", "glm45", "minimax_m2"])
def test_calls_that_must_come_fit(tiny_model_path: Any, name: str) -> None:
    """With random weights, which only the grammar holds to anything."""
    needs_llama_library()
    with running_server(
        tiny_settings(tool_dialect=name), model_path=str(tiny_model_path)
    ) as server:
        for strict in (False, True):
            tool = {"type": "function", "function": {**TOOLS[1]["function"], "strict": strict}}
            body = {"messages": HI, "tools": [tool], "tool_choice": "required", "seed": 1}
            body |= {"max_tokens": 300, "parallel_tool_calls": False, "temperature": 1.5}
            [told] = whole_messages(good(server.post(CHAT, **body)))
            assert told["finish_reason"] == "tool_calls"
            check_calls(told, "toss")
            assert streamed_messages(server.chunks(CHAT, **body)) == [told]
