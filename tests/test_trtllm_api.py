"""Through the whole server, on each release's double: what test_api.py has no place for."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.settings import ServerSettings
from tests.serving import RunningServer, running_server, tensorrt_settings
from tests.tensorrt_double import RELEASES, findable

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
SENTENCE = "Schöne Grüße, 狐狸! "
PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ann", "Bob"]}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=RELEASES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("model")
    settings = tensorrt_settings(
        folder, SENTENCE, server=ServerSettings(), engine={"max_model_len": 1000}
    )
    with findable(request.param), running_server(settings, model_path=str(folder)) as running:
        yield running


def answer(server: RunningServer, **body: Any) -> dict[str, Any]:
    response = server.post(CHAT, messages=HI, **body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("top", [None, 0, 3])
def test_logprobs(server: RunningServer, top: int | None):
    asked = {"logprobs": True} | ({} if top is None else {"top_logprobs": top})
    whole = answer(server, max_tokens=40, **asked)
    chunks = server.chunks(CHAT, messages=HI, max_tokens=40, **asked)

    tokens = whole["choices"][0]["logprobs"]["content"]
    text = whole["choices"][0]["message"]["content"]
    assert len(tokens) == whole["usage"]["completion_tokens"] == 40
    assert bytes(byte for token in tokens for byte in token["bytes"]).startswith(text.encode())
    assert all(token["logprob"] <= 0 for token in tokens)
    assert {len(token["top_logprobs"]) for token in tokens} <= set(range((top or 0) + 1))
    streamed = [
        token
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["logprobs"]
        for token in choice["logprobs"]["content"]
    ]
    assert streamed == tokens


def test_a_schema_is_enforced(server: RunningServer):
    schema = {"name": "person", "schema": PERSON}
    whole = answer(
        server, max_tokens=400, response_format={"type": "json_schema", "json_schema": schema}
    )

    (choice,) = whole["choices"]
    assert choice["finish_reason"] == "stop"
    person = json.loads(choice["message"]["content"])
    assert set(person) == {"name", "age"}
    assert person["name"] in ("Ann", "Bob")


def test_a_bad_pattern_is_the_clients_mistake(server: RunningServer):
    response = server.post(CHAT, messages=HI, guided_regex="(")

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "guided_regex"
    assert answer(server, max_tokens=3)["usage"]["completion_tokens"] == 3


def test_penalties_move_the_answer(server: RunningServer):
    """1.2 drops them by itself."""
    plain = answer(server, max_tokens=40, temperature=0)
    changed = answer(server, max_tokens=40, temperature=0, logit_bias={str(ord("S")): -100})

    assert "S" in plain["choices"][0]["message"]["content"]
    assert "S" not in changed["choices"][0]["message"]["content"]


def test_a_prompt_that_is_too_long(server: RunningServer):
    response = server.chat("x" * 1200)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
