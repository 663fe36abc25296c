"""Responses that are refused, and fields that change nothing."""

from typing import Any

import pytest

from gateway.api.openai.responses.protocol import (
    ResponseRequest,
)
from gateway.api.openai.responses.unsupported import HARMLESS, REFUSED, REFUSED_INSIDE
from tests.kit.chat.answers import error_of
from tests.kit.openai.responses import FUNCTION, HI, URL, ask, refused, without_ids
from tests.kit.openai.schemas import (
    REQUEST_FIELDS,
)
from tests.kit.serving import (
    RunningServer,
)

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
    ({"input": [3]}, "input[0]", "invalid_type"),
    ({"input": []}, "input", "invalid_value"),
    ({"input": [HI, {"type": "item_reference", "id": "x"}]}, "input[1].type", "unsupported_value"),
    ({"input": [HI, {"type": "web_search_call"}]}, "input[1].type", "unsupported_value"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "input[0].content[0]",
        "unsupported_value",
    ),
    ({"tools": [{"type": 3}]}, "tools[0].type", "invalid_type"),
    (
        {"tools": [{"type": "web_search"}], "tool_choice": "required"},
        "tool_choice",
        "invalid_value",
    ),
    (
        {"tools": [FUNCTION, {"type": "custom", "name": "c"}], "tool_choice": {"type": "custom"}},
        "tool_choice.type",
        "invalid_value",
    ),
    (
        {
            "tools": [FUNCTION, {"type": "web_search"}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "web_search"}],
            },
        },
        "tool_choice.tools[0].type",
        "invalid_value",
    ),
    ({"tools": [{"name": "f"}]}, "tools[0].type", "missing_required_parameter"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", "invalid_value"),
    (
        {"tools": [{**FUNCTION, "parameters": {"type": "array"}}]},
        "tools[0].parameters",
        "invalid_function_parameters",
    ),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    (
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice",
        "invalid_value",
    ),
    ({"max_output_tokens": -2}, "max_output_tokens", "invalid_value"),
    ({"input": "a" * 2000}, "input", "context_length_exceeded"),
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"text": {"format": {"type": "json_object"}}}, "text.format", "unsupported_parameter"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options", "invalid_value"),
    (
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": 3}}},
        "text.format.schema",
        "invalid_value",
    ),
]


@pytest.mark.parametrize(("body", "param", "code"), WRONG, ids=[each[1] for each in WRONG])
def test_errors_name_the_fields_of_a_response(
    server: RunningServer, body: dict[str, Any], param: str, code: str
):
    error = refused(server, **body)

    assert (error["param"], error["code"]) == (param, code)
    if code not in ("context_length_exceeded", "unsupported_parameter"):
        assert error_of(server.post(f"{URL}/input_tokens", **{"input": "hi", **body})) == error
    assert f"`{param}`" in error["message"] or code == "context_length_exceeded"


ASKING = {"n": 2, "background": True, "logprobs": True}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_by_name(server: RunningServer, name: str):
    error = refused(server, **{name: ASKING.get(name, "x")})

    assert (error["param"], error["code"]) == (name, "unsupported_parameter")
    for neutral in (None, *REFUSED[name].neutral):
        body = {"input": "hi", "max_output_tokens": 1, name: neutral}
        assert server.post(URL, **body).status_code == 200


@pytest.mark.parametrize("path", REFUSED_INSIDE)
def test_what_cannot_be_done_is_refused_one_level_below(server: RunningServer, path: str):
    outer, inner = path.split(".")
    assert refused(server, **{outer: {inner: "x"}})["param"] == path
    for neutral in (None, *REFUSED_INSIDE[path].neutral):
        body = {"input": "hi", "max_output_tokens": 1, outer: {inner: neutral}}
        assert server.post(URL, **body).status_code == 200


VALUES: dict[str, Any] = {
    "metadata": {"a": "b"},
    "store": False,
    "service_tier": "flex",
    "max_tool_calls": 1,
    "prompt_cache_options": {},
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_changes_nothing(server: RunningServer, name: str):
    plain = ask(server, max_output_tokens=9)
    changed = ask(server, max_output_tokens=9, **{name: VALUES.get(name, "x")})

    assert without_ids(changed)["output"] == without_ids(plain)["output"]


def test_every_field_of_openai_is_known():
    assert set(REQUEST_FIELDS["CreateResponse"]) <= set(ResponseRequest.__struct_fields__)
    assert HARMLESS.keys() | REFUSED.keys() <= set(ResponseRequest.__struct_fields__)
    assert not HARMLESS.keys() & REFUSED.keys()
