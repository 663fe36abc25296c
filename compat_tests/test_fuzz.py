"""Requests made up from the OpenAPI document, right and wrong ones: never a 5xx, every error in the
envelope, every answer as the document says. On the scripted engine, so it needs no model."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.admission.keys import KeyRing
from gateway.api.ops.openapi import document
from gateway.app import create_app
from tests.kit.serving import MODEL, RunningServer, running_server, scripted_settings

NUM_EXAMPLES = int(os.environ.get("LOCKGATE_FUZZ_EXAMPLES", "60"))
"""Requests for each operation and kind."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SETTINGS = scripted_settings(
    engine={"max_model_len": 900, "max_num_waiting": 1000}, text="The quick brown fox, 狐狸! "
)
PATHS = document(create_app(SETTINGS, "", KeyRing()).routes)["paths"]
MODEL_PATH = "/v1/models/{model_id}"
RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CASES = [
    (path, method, mode)
    for path, operations in PATHS.items()
    for method, operation in operations.items()
    for mode in ([RIGHT, WRONG] if "requestBody" in operation else [RIGHT])
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def schema(server: RunningServer) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def check_events(text: str) -> None:
    """The client stops reading when it has seen enough events, so the end may be missing."""
    for event in text.removesuffix("\n\n").split("\n\n"):
        if not event.startswith(":") and event != "data: [DONE]":
            assert "error" not in json.loads(event[event.index("data: ") + 6 :])


def is_envelope(body: Any) -> bool:
    return set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_requests_that_were_made_up(
    server: RunningServer, schema: Any, path: str, method: str, mode: GenerationMode
):
    operation = schema[path][method.upper()]
    statuses: Counter[int] = Counter()
    description = PATHS[path][method]
    has_query = any(each["in"] == "query" for each in description.get("parameters", ()))
    has_input = "requestBody" in description or "{" in path or has_query

    @settings(
        max_examples=NUM_EXAMPLES if has_input else 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def run(data: Any) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        _name_the_model(case)
        _name_the_object(server, case)
        if path == "/tokenize" and mode is not WRONG:
            _choose_the_prompt(case)
        if path == "/v1/score" and mode is not WRONG:
            _choose_the_texts(case)
        if path == "/v1/embeddings" and mode is not WRONG:
            _choose_the_inputs(case)
        if path == "/v1/responses/compact" and mode is not WRONG:
            case.body.setdefault("input", "hi")
        response = case.call(base_url=server.url, timeout=30)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400:
            assert is_envelope(json.loads(response.content))
        elif response.headers["content-type"][0].startswith("text/event-stream"):
            check_events(response.content.decode())
        statuses[response.status_code] += 1

    run()
    if mode is WRONG and has_query:
        assert statuses[400], "what is wrong may be in the URL alone, where unknown names are taken"
    elif mode is WRONG:
        assert not statuses[200]
    elif path.startswith("/admin/") or "lora_adapter" in path:
        assert set(statuses) <= {403, 405}, "without keys nobody is an admin"
    elif "/usage/" in path:
        assert statuses[200], "most spans of time are too long, or end before they begin"
    elif path != MODEL_PATH:
        assert statuses[200] > statuses.total() / 20, f"hardly any was served: {statuses}"


def _name_the_model(case: Any) -> None:
    """A model that was made up would be a 404, whatever else the request says."""
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = MODEL


def _name_the_object(server: RunningServer, case: Any) -> None:
    """An object that was made up would be a 404, whatever else the request says."""
    names = case.path_parameters or {}
    if "response_id" in names:
        fields = {"input": "hi", "max_output_tokens": 1}
        is_cancelled = case.path.endswith("/cancel")
        names["response_id"] = _new_id(server, "/v1/responses", **fields, background=is_cancelled)
    if "completion_id" in names:
        fields = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        names["completion_id"] = _new_id(server, "/v1/chat/completions", **fields, store=True)
    if "conversation_id" in names:
        item = {"role": "user", "content": "hi", "id": "msg_one"}
        names["conversation_id"] = _new_id(server, "/v1/conversations", items=[item])
    if "item_id" in names:
        names["item_id"] = "msg_one"


def _new_id(server: RunningServer, path: str, **body: Any) -> str:
    response = server.http.post(path, json=body)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


OF_PROMPTS = ("model", "prompt", "add_special_tokens", "return_token_strs")
"""Fields of /tokenize that go with `prompt`; the others go with `messages`."""


def _choose_the_prompt(case: Any) -> None:
    """A text together with a conversation would be a 400, whatever else the request says."""
    if isinstance(case.body, dict) and isinstance(case.body.get("prompt"), str):
        case.body = {name: value for name, value in case.body.items() if name in OF_PROMPTS}


OF_TEXTS = ("text_1", "text_2", "queries", "documents")


def _choose_the_texts(case: Any) -> None:
    """Texts under two pairs of names would be a 400, whatever else the request says."""
    if isinstance(case.body, dict):
        others = {name: case.body[name] for name in case.body if name not in OF_TEXTS}
        case.body = {
            **others,
            "text_1": "one",
            "text_2": case.body.get("text_2") or ["two", "three"],
        }


def _choose_the_inputs(case: Any) -> None:
    """Texts beside token ids, and ids that no vocabulary has, would be a 400, whatever else the
    request says."""
    if isinstance(case.body, dict) and isinstance(inputs := case.body.get("input"), list):
        texts = [each for each in inputs if isinstance(each, str) and each]
        case.body["input"] = texts or [1, 2, 3]
