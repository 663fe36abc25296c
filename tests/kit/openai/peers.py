"""What users of other servers ask for."""

import json
from typing import Any

import pytest

from tests.kit.chat import answers
from tests.kit.chat.answers import CHAT, HI, TEXT, error_of
from tests.kit.serving import (
    RunningServer,
)

SENTENCE = 'a\n\nb\r\ndata: [DONE]\n\n"ü狐👩‍👩‍👧"\u2028\u0085\\ '
ARGUMENTS = {"city": "Zürich 狐 👍", "note": 'a "b" \\ \n'}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "note": {"type": "string"}},
    "required": ["city", "note"],
}


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
CALL = f"<tool_call>\n{json.dumps({'name': 'f', 'arguments': ARGUMENTS}, ensure_ascii=False)}\n"
SCRIPT = f"{CALL}</tool_call>"


def body_of(path: str, **fields: Any) -> dict[str, Any]:
    return {**({"messages": HI} if path == CHAT else {"prompt": "hi"}), **fields}


def good(server: RunningServer, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    return answers.good(server.post(path, **body_of(path, **fields)))


def refused(server: RunningServer, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    """The error of a 400; the server serves on."""
    response = server.post(path, **body_of(path, **fields))
    assert server.post(path, **body_of(path, max_tokens=1)).status_code == 200
    return error_of(response)


both_endpoints = pytest.mark.parametrize("path", [CHAT, TEXT])
streamed_or_not = pytest.mark.parametrize("stream", [False, True])
