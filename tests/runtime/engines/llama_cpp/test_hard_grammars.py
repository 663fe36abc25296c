"""Over HTTP: hard grammars end their own requests, and nothing else."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest

from runtime.processes import is_alive
from runtime.structured.trial.limits import MAX_SECONDS
from tests.kit.chat.answers import HI
from tests.kit.engines import needs_llama_library
from tests.kit.grammars import SLOW
from tests.kit.serving import RunningServer, wait_for

needs_llama_library()

ORDINARY = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
DIVISOR = {"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 99_999_989}}}


def schema(schema: dict[str, Any], *, strict: bool = True) -> dict[str, Any]:
    wanted = {"name": "x", "schema": schema, "strict": strict}
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def tools(choice: str, *schemas: dict[str, Any], strict: bool = True) -> dict[str, Any]:
    functions = [
        {"name": f"f{n}", "parameters": each, "strict": strict} for n, each in enumerate(schemas)
    ]
    listed = [{"type": "function", "function": each} for each in functions]
    return {"tools": listed, "tool_choice": choice}


def ask(server: RunningServer, **body: Any) -> httpx.Response:
    asked = {"model": "acme/parrot", "messages": HI, "max_tokens": 8, **body}
    return server.http.post("/v1/chat/completions", json=asked, timeout=3 * MAX_SECONDS)


def trials(server: RunningServer) -> list[psutil.Process]:
    engine = psutil.Process(server.health()["engine"]["pid"])
    return [process for process in engine.children() if is_alive(process)]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (schema(DIVISOR), "response_format"),
        (schema(SLOW), "response_format"),
        (tools("auto", ORDINARY, DIVISOR), "tools[1].function.parameters"),
        (tools("required", ORDINARY, SLOW), "tools[1].function.parameters"),
        ({"guided_regex": "((a{999}){999}){999}"}, "guided_regex"),
        ({"guided_grammar": 'start: %json {"multipleOf": 99999989}'}, "guided_grammar"),
    ],
)
def test_a_hard_grammar_is_a_clear_error_and_others_are_served(
    tiny_server: RunningServer, body: dict[str, Any], param: str
) -> None:
    with ThreadPoolExecutor(4) as clients:
        refused = [clients.submit(ask, tiny_server, seed=n, **body) for n in range(3)]
        began = time.monotonic()
        assert ask(tiny_server, **schema(ORDINARY)).status_code == 200
        assert time.monotonic() - began < 10
    for answer in refused:
        error = answer.result().json()["error"]
        assert (answer.result().status_code, error["param"]) == (400, param)
        assert "cannot be enforced" in error["message"]


@pytest.mark.parametrize(
    ("body", "keyword"),
    [
        (schema(SLOW, strict=False), "response_format"),
        (tools("required", ORDINARY, DIVISOR, strict=False), "tools[1].function.parameters"),
        ({"guided_json": {"allOf": [DIVISOR, ORDINARY]}}, "guided_json"),
    ],
)
def test_what_is_not_strict_loses_what_is_hard(
    tiny_server: RunningServer, body: dict[str, Any], keyword: str
) -> None:
    answer = ask(tiny_server, **body)

    assert answer.status_code == 200, answer.text
    assert f"{keyword}" in answer.headers["x-loosened-keywords"]
    assert "multipleOf" in answer.headers["x-loosened-keywords"]


def test_a_grammar_of_a_client_that_left_is_not_compiled_on(tiny_server: RunningServer) -> None:
    before = tiny_server.metric("grammar_compilations_killed_total")
    for number in range(3):
        with pytest.raises(httpx.ReadTimeout):
            tiny_server.http.post(
                "/v1/chat/completions",
                json={
                    "model": "acme/parrot",
                    "messages": HI,
                    **schema({**SLOW, "title": f"{number}"}),
                },
                timeout=0.5,
            )

    wait_for(lambda: tiny_server.metric("num_grammars") == 0)
    wait_for(lambda: tiny_server.metric('num_requests_waiting_by_reason{reason="grammar"}') == 0)
    assert tiny_server.metric("grammar_compilations_killed_total") > before
    assert ask(tiny_server, guided_grammar='start: "a" | "b"').status_code == 200


def test_an_engine_that_is_killed_leaves_no_trial(tiny_server: RunningServer) -> None:
    ask(tiny_server, guided_grammar='start: "c"')
    wait_for(lambda: bool(trials(tiny_server)))
    left = trials(tiny_server)
    engine = psutil.Process(tiny_server.health()["engine"]["pid"])

    engine.kill()

    wait_for(lambda: not any(process.is_running() for process in left))
    wait_for(lambda: tiny_server.http.get("/health/ready").status_code == 200)
    assert ask(tiny_server, guided_grammar='start: "c"').status_code == 200
