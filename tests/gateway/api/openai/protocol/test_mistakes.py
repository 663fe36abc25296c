"""Mistakes inside bodies: the place that is named, and what is said of it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.protocol.requests import ChatCompletionRequest, decode_chat_completion
from gateway.api.openai.responses.protocol import decode_response_request, input_items, tools_of
from gateway.http.decoding import MISTAKES, to_invalid_request
from runtime.errors import InvalidRequest

HI = [{"role": "user", "content": "hi"}]
ROLES = "`developer`, `system`, `user`, `assistant`, `tool`, `function`"
PARTS = "`text`, `refusal`, `image_url`, `input_audio`, `file`, `image`, `document`, `tool_use`"
FORMATS = "`text`, `json_object`, `json_schema`"
CHOICES = "`function`, `custom`, `allowed_tools`"
SUBSET = {"mode": "auto", "tools": [{}]}


def part(**fields: Any) -> dict[str, Any]:
    return {"messages": [*HI, {"role": "user", "content": [fields]}]}


TAGS: list[tuple[dict[str, Any], list[str | int], str]] = [
    ({"messages": [{"content": "x"}]}, ["messages", 0, "role"], ROLES),
    (part(text="x"), ["messages", 1, "content", 0, "type"], PARTS),
    (
        part(type="tool_result", content=[{}]),
        ["messages", 1, "content", 0, "content", 0, "type"],
        "`text`, `image_url`",
    ),
    ({"tools": [{"function": {"name": "f"}}]}, ["tools", 0, "type"], "`function`"),
    ({"response_format": {}}, ["response_format", "type"], FORMATS),
    ({"tool_choice": {}}, ["tool_choice", "type"], CHOICES),
    (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": SUBSET}},
        ["tool_choice", "allowed_tools", "tools", 0, "type"],
        "`function`, `custom`",
    ),
]


def mistake(fields: dict[str, Any]) -> InvalidRequest:
    body = json.dumps({"messages": HI, **fields}).encode()
    with pytest.raises(MISTAKES) as caught:
        decode_chat_completion(body)
    return to_invalid_request(caught.value, ChatCompletionRequest, body=body)


def path_of(steps: list[str | int]) -> str:
    return "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps).removeprefix(".")


def with_value(fields: dict[str, Any], steps: list[str | int], value: Any) -> dict[str, Any]:
    """A copy with a value at a place."""
    copy: Any = json.loads(json.dumps(fields))
    target = copy
    for step in steps[:-1]:
        target = target[step]
    target[steps[-1]] = value
    return copy


@pytest.mark.parametrize(("fields", "steps", "known"), TAGS)
def test_a_missing_tag_is_answered_with_those_that_would_do(
    fields: dict[str, Any], steps: list[str | int], known: str
):
    for body in (fields, with_value(fields, steps, None)):
        error = mistake(body)

        assert (error.param, error.code) == (path_of(steps), "missing_required_parameter")
        assert f"`{path_of(steps)}` is required. Known are {known}" in str(error)


@pytest.mark.parametrize(("fields", "steps", "known"), TAGS)
@pytest.mark.parametrize("value", [3, True, ["text"], {}])
def test_a_tag_of_another_type_is_wrong(
    fields: dict[str, Any], steps: list[str | int], known: str, value: Any
):
    error = mistake(with_value(fields, steps, value))

    assert (error.param, error.code) == (path_of(steps), "invalid_type")
    assert known in str(error) or steps == ["tools", 0, "type"]


@pytest.mark.parametrize(
    ("fields", "param", "known"),
    [
        ({"tools": [{"name": "f"}]}, "tools[0].type", "`function`"),
        ({"tools": [{"type": None}]}, "tools[0].type", "`function`"),
        (
            {"input": [{"role": "user", "content": [{"type": None, "text": "x"}]}]},
            "input[0].content[0].type",
            "`input_text`, `output_text`, `refusal`",
        ),
        (
            {"input": [{"type": "reasoning", "summary": [{"type": None, "text": "x"}]}]},
            "input[0].summary[0].type",
            "`reasoning_text`, `summary_text`",
        ),
        (
            {"input": [{"role": None, "content": "x"}]},
            "input[0].role",
            "`assistant`, `developer`, `system`, `user`",
        ),
    ],
)
def test_tags_of_items_and_of_their_tools(fields: dict[str, Any], param: str, known: str):
    data = decode_response_request(json.dumps({"input": "hi", **fields}).encode())
    read: Any = tools_of if "tools" in fields else input_items
    with pytest.raises(InvalidRequest) as caught:
        read(data)

    assert (caught.value.param, caught.value.code) == (param, "missing_required_parameter")
    assert f"Known are {known}" in str(caught.value)


@given(
    st.dictionaries(st.text(max_size=20), st.text(max_size=9), max_size=4),
    st.text(max_size=20),
    st.sampled_from([(None, "is null: it has to be a string"), (3, "got `int`"), ([], "`array`")]),
)
def test_a_wrong_entry_is_named_by_its_key(
    metadata: dict[str, str], key: str, wrong: tuple[Any, str]
):
    value, says = wrong
    error = mistake({"metadata": {**metadata, key: value}})

    shown = key.replace("\\", "\\\\").replace("'", "\\'")
    assert (error.param, error.code) == (f"metadata['{shown}']", "invalid_type")
    assert f"`{error.param}`" in str(error)
    assert says in str(error)


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        (None, "invalid_type", "is null: it has to be a number"),
        ("x", "invalid_type", "expected `float`, got `str`"),
        (200, "invalid_value", "<= 100"),
        (-101, "invalid_value", ">= -100"),
    ],
)
@given(st.integers(0, 2**31 - 1), st.sets(st.integers(0, 2**31 - 1), max_size=3))
def test_a_wrong_bias_is_named_by_its_token(
    value: Any, code: str, says: str, token_id: int, others: set[int]
):
    fields = {str(each): 1 for each in others} | {str(token_id): value}
    error = mistake({"logit_bias": fields})

    assert (error.param, error.code) == (f"logit_bias['{token_id}']", code)
    assert says in str(error)
