"""What becomes of responses: clients leave, time is over, official clients read."""

import json
from typing import Any

import openai
import pytest
from jsonschema import Draft202012Validator

from gateway.settings.schema import ServerSettings, StoreSettings
from tests.kit.openai.responses import FUNCTION, HI, SENTENCE, URL, ask, fold, parse
from tests.kit.openai.schemas import (
    check_answer,
    check_error,
)
from tests.kit.serving import (
    MODEL,
    RunningServer,
    raw_request,
    running_server,
    scripted_settings,
    wait_for,
)


def test_a_server_without_a_memory_says_so():
    with running_server(scripted_settings(store=StoreSettings(enabled=False))) as server:
        response = server.post(URL, input="hi", max_output_tokens=1, store=True)
        assert response.headers["x-ignored-parameters"] == "store"
        answer = response.json()
        assert answer["store"] is False
        for method, path in (
            *(("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")),
        ):
            response = server.http.request(method, f"{URL}/{answer['id']}{path}")
            assert response.status_code == 404
            check_error(response.json())
            assert response.json()["error"]["code"] == "response_not_found"
            assert "does not store" in response.json()["error"]["message"]
        after = server.post(URL, input="and?", previous_response_id=answer["id"])
        assert after.json()["error"]["code"] == "previous_response_not_found"


def test_input_tokens_are_those_of_the_usage(server: RunningServer):
    body = {"input": [HI], "instructions": "Be short.", "tools": [FUNCTION]}
    counted = server.post(f"{URL}/input_tokens", **body)

    check_answer("TokenCountsResource", counted.json())
    told = ask(server, **body, max_output_tokens=1)["usage"]["input_tokens"]
    assert counted.json()["input_tokens"] == told
    assert server.http.post(f"{URL}/input_tokens", json={"input": "hi"}).status_code == 200
    wrong = server.post(f"{URL}/input_tokens", input="hi", previous_response_id="x")
    assert wrong.json()["error"]["param"] == "previous_response_id"


def test_a_client_that_leaves_frees_the_engine():
    with running_server(scripted_settings(text=SENTENCE, step_ms=5)) as running:
        with running.connect() as connection:
            body = {"input": "hi", "stream": True, "max_output_tokens": 20_000}
            connection.sendall(raw_request(URL, body))
            assert b"200" in connection.recv(1000)
        wait_for(lambda: running.metric("requests_aborted_total") == 1)


def test_an_error_in_mid_stream_ends_it_with_what_there_is():
    """The time is over while the answer is written."""
    config = scripted_settings(
        server=ServerSettings(request_timeout=0.5), text=SENTENCE, step_ms=20
    )
    with running_server(config) as running:
        response = running.post(URL, input="hi", stream=True, max_output_tokens=20_000)
    events = parse(response.text)
    end = fold(events)

    assert response.status_code == 200
    assert events[-1]["type"] == "response.failed"
    assert (end["status"], end["error"]["code"]) == ("failed", "server_error")
    assert end["output"][0]["status"] == "incomplete"
    assert end["output"][0]["content"][0]["text"]


SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "capital": {"type": "boolean"}},
    "required": ["city", "capital"],
    "additionalProperties": False,
}


def test_a_schema_is_enforced(tiny_server: RunningServer):
    wanted = {"type": "json_schema", "name": "city", "schema": SCHEMA}
    answer = ask(tiny_server, text={"format": wanted}, max_output_tokens=200, temperature=1)

    Draft202012Validator(SCHEMA).validate(json.loads(answer["output"][0]["content"][0]["text"]))
    assert answer["text"]["format"] == wanted


def test_a_call_that_has_to_come_comes(tiny_server: RunningServer):
    tool = {"type": "function", "name": "toss", "parameters": SCHEMA}
    choices: list[Any] = [
        "required",
        {"type": "function", "name": "toss"},
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "toss"}],
        },
    ]
    for choice in choices:
        asked = {"tools": [tool], "tool_choice": choice, "parallel_tool_calls": False}
        answer = ask(tiny_server, **asked, max_output_tokens=200, temperature=1)
        [call] = answer["output"]
        assert call["name"] == "toss"
        Draft202012Validator(SCHEMA).validate(json.loads(call["arguments"]))
        assert answer["tool_choice"] == choice


def test_the_official_client_reads_every_answer(server: RunningServer, caller: RunningServer):
    """Strictly: it takes nothing that its types do not allow."""
    for running, fields in ((server, {}), (caller, {"tools": [FUNCTION]})):
        with openai.OpenAI(
            base_url=f"{running.url}/v1",
            api_key="none",
            max_retries=0,
            _strict_response_validation=True,
        ) as client:
            asked: Any = {"model": MODEL, "input": "hi", "extra_body": {"seed": 1}, **fields}
            whole = client.responses.create(**asked)
            with client.responses.stream(**asked) as stream:
                kinds = [event.type for event in stream]
                final = stream.get_final_response()
            assert final.output_text == whole.output_text
            assert [item.type for item in final.output] == [item.type for item in whole.output]
            assert kinds[-1] == "response.completed"
            counted = client.responses.input_tokens.count(model=MODEL, input="hi", **fields)
            assert whole.usage is not None
            assert counted.input_tokens == whole.usage.input_tokens
            assert client.responses.retrieve(whole.id) == whole
            client.responses.delete(whole.id)
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(whole.id)
