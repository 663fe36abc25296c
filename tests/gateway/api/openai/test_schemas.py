"""Answers, chunks and errors against the schemas that OpenAI publishes."""

from typing import Any

import pytest
from jsonschema import ValidationError

from tests.kit.chat.answers import CHAT, HI, TEXT
from tests.kit.openai import fields as openai_fields
from tests.kit.openai.schemas import (
    REQUEST_FIELDS,
    check_answer,
    check_chat,
    check_chat_chunk,
    check_completion,
    check_completion_chunk,
    check_error,
)
from tests.kit.serving import MODEL, RunningServer

every_option = pytest.mark.parametrize(
    "options", [{}, {"include_usage": True}, {"continuous_usage_stats": True}]
)


@every_option
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 3},
        {"logprobs": True},
        {"logprobs": True, "top_logprobs": 3, "n": 2},
        {"stop": "fox", "max_tokens": 100},
        {"service_tier": "priority"},
    ],
)
def test_chats(open_server: RunningServer, fields: dict[str, Any], options: dict[str, Any]):
    body = {"messages": HI, "max_tokens": 12, **fields}

    check_chat(open_server.post(CHAT, **body).json())
    for chunk in open_server.chunks(CHAT, stream_options=options, **body):
        check_chat_chunk(chunk)


@every_option
@pytest.mark.parametrize(
    "fields", [{}, {"n": 2}, {"logprobs": 2}, {"logprobs": 0}, {"echo": True}, {"best_of": 2}]
)
def test_completions(open_server: RunningServer, fields: dict[str, Any], options: dict[str, Any]):
    body = {"prompt": ["hi", "there"], "max_tokens": 12, **fields}

    check_completion(open_server.post(TEXT, **body).json())
    if "best_of" not in fields:
        for chunk in open_server.chunks(TEXT, stream_options=options, **body):
            check_completion_chunk(chunk)


def test_models(open_server: RunningServer):
    check_answer("ListModelsResponse", open_server.http.get("/v1/models").json())
    check_answer("Model", open_server.http.get(f"/v1/models/{MODEL}").json())


@pytest.mark.parametrize("stream", [False, True])
def test_errors(open_server: RunningServer, stream: bool):
    for path, body in (
        (CHAT, {"messages": []}),
        (CHAT, {"messages": HI, "model": "other"}),
        (CHAT, {"messages": HI, "max_tokens": -9}),
        (TEXT, {"prompt": "hi", "temperature": 5}),
        (TEXT, {"prompt": "hi", "use_beam_search": True}),
    ):
        response = open_server.post(path, stream=stream, **body)
        assert response.status_code in (400, 404)
        check_error(response.json())
    for response in (open_server.http.get("/nowhere"), open_server.http.delete(CHAT)):
        check_error(response.json())


def test_what_is_wrong_is_found(open_server: RunningServer):
    answer = open_server.post(CHAT, messages=HI, max_tokens=2).json()
    del answer["choices"][0]["message"]["refusal"]

    with pytest.raises(ValidationError, match="refusal"):
        check_chat(answer)


def test_our_list_of_fields_is_openais():
    """Fields that the published document has and our table does not would be ignored."""
    for name, known in (
        ("CreateChatCompletionRequest", {**openai_fields.CHAT, **openai_fields.EXTENSIONS}),
        ("CreateCompletionRequest", openai_fields.COMPLETION),
    ):
        assert set(REQUEST_FIELDS[name]) <= set(known)
