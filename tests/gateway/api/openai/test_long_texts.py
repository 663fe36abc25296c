"""However long a client's names and values are, an error repeats little of them."""

from typing import Any

import pytest

from gateway.errors import MAX_MESSAGE
from gateway.http.connections.limits import MAX_TARGET_BYTES
from tests.kit.chat.answers import CHAT, EMBEDDINGS, HI, RESPONSES, TEXT
from tests.kit.serving import RunningServer

LONG = "x" * 30_000
WORDS = "two words " * 3_000
CALL = {"function": {"name": LONG, "arguments": "{}"}}
BODIES: list[tuple[str, dict[str, Any]]] = [
    *((path, {"model": LONG}) for path in (CHAT, TEXT, RESPONSES, EMBEDDINGS, "/tokenize")),
    *((path, {"user": 1, LONG: 1}) for path in (CHAT, TEXT, RESPONSES)),
    (CHAT, {"model": WORDS}),
    (CHAT, {"messages": [{"role": LONG}]}),
    (CHAT, {"messages": [{"role": WORDS}]}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": LONG}]}]}),
    (CHAT, {"service_tier": LONG}),
    (CHAT, {"metadata": {LONG: "x"}}),
    (CHAT, {"metadata": {"x": LONG}}),
    (CHAT, {"logit_bias": {LONG: 1}}),
    (CHAT, {"logit_bias": {"1": LONG}}),
    (CHAT, {"response_format": {"type": LONG}}),
    (CHAT, {"response_format": {"type": "text", LONG: 1}}),
    (CHAT, {"structured_outputs": {LONG: 1}}),
    (CHAT, {"guided_regex": f"({LONG}"}),
    (CHAT, {"tools": [{"type": "function", "function": {"name": LONG}}]}),
    (
        CHAT,
        {
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": {"type": "function", "function": {"name": LONG}},
        },
    ),
    (CHAT, {"reasoning_effort": WORDS}),
    (TEXT, {"grammar": {"type": LONG, "value": 1}}),
    (RESPONSES, {"input": [{"type": LONG}]}),
    (RESPONSES, {"include": [LONG]}),
    ("/generate", {LONG: 1}),
]


@pytest.mark.parametrize(("path", "fields"), BODIES)
def test_an_error_is_short(open_server: RunningServer, path: str, fields: dict[str, Any]):
    body = {"messages": HI, "prompt": "hi", "input": "hi"}
    taken = {CHAT: "messages", RESPONSES: "input", EMBEDDINGS: "input"}.get(path, "prompt")
    response = open_server.post(path, **{taken: body[taken], **fields})

    assert response.status_code in (400, 404)
    error = response.json()["error"]
    assert len(error["message"]) < MAX_MESSAGE * 1.1
    assert len(error["param"] or "") <= 201
    assert len(response.content) < 3 * MAX_MESSAGE


@pytest.mark.parametrize("path", ["/v1/", "/v1/responses/", "/v1/models/", "/"])
def test_a_path_is_not_repeated(open_server: RunningServer, path: str):
    response = open_server.http.get((path + LONG)[:MAX_TARGET_BYTES])

    assert response.status_code == 404
    assert len(response.content) < 1000
