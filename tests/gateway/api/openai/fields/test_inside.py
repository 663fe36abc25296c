"""Fields that nobody declares inside messages, tools and items: refused by name, or reported."""

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.openai.fields.fates import Refused
from gateway.api.openai.fields.inside import INSIDE, MEDIA
from tests.kit.chat.answers import CHAT, HI, RESPONSES, error_of, good
from tests.kit.serving import RunningServer

HEADER = "x-ignored-parameters"
SCRIPT = {CHAT: {"messages": HI, "max_tokens": 3}, RESPONSES: {"input": "hi"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FUNCTION = {"name": "f", "parameters": {"type": "object"}}


NAMES = st.text(max_size=8).map(lambda text: f"qz{text}")
"""Names of no field, in any spelling."""


def said(**fields: Any) -> dict[str, Any]:
    """A chat whose last message has more fields."""
    return {"messages": [*HI, {"role": "user", "content": "so", **fields}]}


def answered(**fields: Any) -> dict[str, Any]:
    """A chat whose last message is the assistant's."""
    return {"messages": [*HI, {"role": "assistant", "content": "so", **fields}]}


def part(**fields: Any) -> dict[str, Any]:
    return said(content=[{"type": "text", "text": "so", **fields}])


def called(**fields: Any) -> dict[str, Any]:
    return answered(tool_calls=[{**CALL, **fields}])


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": "so", **fields}]}


def item_part(**fields: Any) -> dict[str, Any]:
    return item(content=[{"type": "input_text", "text": "so", **fields}])


def output(**fields: Any) -> dict[str, Any]:
    return {"input": [{"type": "function_call_output", "output": "so", **fields}]}


def thought(**fields: Any) -> dict[str, Any]:
    return {"input": [{"type": "reasoning", "content": [], **fields}, *HI]}


def skipped(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"type": "web_search", **fields}]}


REFUSED: list[tuple[str, Any, str, Any]] = [
    *((CHAT, said, name, [1]) for name in MEDIA),
    *((CHAT, answered, name, [1]) for name in MEDIA if name != "audio"),
    *((CHAT, part, name, [1]) for name in MEDIA),
    *((RESPONSES, item, name, [1]) for name in MEDIA),
    *((RESPONSES, item_part, name, [1]) for name in MEDIA),
    *((RESPONSES, output, name, [1]) for name in MEDIA),
    *((CHAT, said, name, True) for name in ("prefix", "partial")),
    *((RESPONSES, item, name, True) for name in ("prefix", "partial")),
    (CHAT, said, "tool_calls", [CALL]),
    (CHAT, said, "reasoning_content", "because"),
    (CHAT, said, "thinking", "because"),
    (CHAT, answered, "continue_final_message", True),
    (RESPONSES, item, "tool_calls", [CALL]),
    (RESPONSES, output, "is_error", True),
]
REPORTED: list[tuple[str, Any, str]] = [
    (CHAT, said, "messages[1]."),
    (CHAT, answered, "messages[1]."),
    (CHAT, part, "messages[1].content[0]."),
    (CHAT, called, "messages[1].tool_calls[0]."),
    (CHAT, lambda **fields: {"stream_options": fields, "stream": True}, "stream_options."),
    (CHAT, lambda **fields: {"reasoning": fields}, "reasoning."),
    (CHAT, lambda **fields: {"thinking": {"type": "auto", **fields}}, "thinking."),
    (RESPONSES, item, "input[0]."),
    (RESPONSES, item_part, "input[0].content[0]."),
    (RESPONSES, output, "input[0]."),
    (RESPONSES, thought, "input[0]."),
    (RESPONSES, lambda **fields: {"text": fields}, "text."),
    (RESPONSES, lambda **fields: {"reasoning": fields}, "reasoning."),
    ("/tokenize", said, "messages[1]."),
]


def body_of(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    limits = {CHAT: {"max_tokens": 3}, RESPONSES: {"max_output_tokens": 3}}
    return {**SCRIPT.get(path, {}), **limits.get(path, {}), **fields}


@pytest.mark.parametrize(("path", "make", "name", "value"), REFUSED)
def test_what_would_change_the_answer_is_refused_by_name(
    open_server: RunningServer, path: str, make: Any, name: str, value: Any
):
    error = error_of(open_server.http.post(path, json=body_of(path, make(**{name: value}))))
    assert error["code"] == "unsupported_parameter"
    assert error["param"].endswith(f"].{name}")
    assert f"`{error['param']}`" in error["message"]

    for nothing in (None, False):
        body = body_of(path, make(**{name: nothing}))
        if nothing is None or name not in ("tool_calls", "reasoning_content", "thinking"):
            response = open_server.http.post(path, json=body)
            assert response.status_code == 200, response.text
            assert HEADER not in response.headers


@pytest.mark.parametrize(("path", "make", "where"), REPORTED)
def test_what_changes_nothing_is_reported_with_its_place(
    open_server: RunningServer, path: str, make: Any, where: str
):
    response = open_server.http.post(path, json=body_of(path, make(never_heard_of={"a": 1})))
    assert response.status_code == 200, response.text
    assert response.headers[HEADER] == f"{where}never_heard_of"

    silent = open_server.http.post(path, json=body_of(path, make(never_heard_of=None)))
    assert HEADER not in silent.headers


@pytest.mark.parametrize(
    ("path", "fields", "name", "meant"),
    [
        (CHAT, said(Name="x"), "messages[1].Name", "name"),
        (CHAT, answered(toolCalls=[CALL]), "messages[1].toolCalls", "tool_calls"),
        (CHAT, answered(reasoningContent="x"), "messages[1].reasoningContent", "reasoning_content"),
        (CHAT, {"stream": True, "stream_options": {"includeUsage": True}}, "", "include_usage"),
        (CHAT, {"thinking": {"type": "enabled", "budgetTokens": 5}}, "", "budget_tokens"),
        (RESPONSES, output(callId="x"), "input[0].callId", "call_id"),
        (CHAT, {"response_format": {"type": "json_schema", "jsonSchema": {}}}, "", "json_schema"),
        (CHAT, {"structured_outputs": {"jsonObject": True}}, "", "json_object"),
        (RESPONSES, {"text": {"format": {"type": "text", "Schema": 1}}}, "", "schema"),
    ],
)
def test_another_spelling_is_answered_with_the_right_one(
    open_server: RunningServer, path: str, fields: dict[str, Any], name: str, meant: str
):
    error = error_of(open_server.http.post(path, json=body_of(path, fields)))

    assert error["code"] == "unknown_parameter"
    assert error["param"].endswith(name)
    assert f"Did you mean `{meant}`?" in error["message"]


@settings(deadline=None)
@given(
    st.sampled_from(REPORTED),
    NAMES,
    st.sampled_from(["", "x", None, 0, [], {"a": [None]}]),
)
def test_any_name_in_any_object_is_reported_or_refused(
    open_server: RunningServer, row: tuple[str, Any, str], name: str, value: Any
):
    path, make, where = row
    body = body_of(path, make(**{"known_to_nobody": 1, name: value}))
    response = open_server.http.post(path, json=body)
    if response.status_code == 200:
        shown = [unquote(each) for each in response.headers[HEADER].split(", ")]
        assert f"{where}known_to_nobody" in shown
        assert value is None or f"{where}{name}" in shown
    else:
        assert name.casefold() in response.json()["error"]["message"].casefold()


def test_names_that_the_template_does_not_show_are_reported(open_server: RunningServer):
    """Those of functions are for their results."""
    roles = ("system", "user", "assistant", "developer", "user")
    messages: list[dict[str, Any]] = [{"role": r, "content": "a", "name": "ann"} for r in roles]
    result = {"role": "tool", "content": "x", "name": "f", "tool_call_id": "c"}
    called = {"role": "assistant", "tool_calls": [CALL]}
    history = [*HI, called, result, *messages]
    response = open_server.post(CHAT, messages=history, max_tokens=3)

    names = [f"messages[{index}].name" for index in (3, 4, 5)]
    assert response.headers[HEADER] == ", ".join(names)
    nameless = open_server.post(CHAT, messages=[*HI, called, result], max_tokens=3)
    assert HEADER not in nameless.headers


def test_a_field_is_reported_once_at_its_first_place(open_server: RunningServer):
    cached = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "user", "content": [cached, cached]}] * 30
    response = open_server.post(CHAT, messages=messages, max_tokens=3)

    assert response.headers[HEADER] == "messages[0].content[0].cache_control"


def test_answers_can_be_sent_back_without_a_word(open_server: RunningServer):
    message = good(open_server.post(CHAT, messages=HI, max_tokens=3))["choices"][0]["message"]
    chat = open_server.post(CHAT, messages=[*HI, message, *HI], max_tokens=3)
    items = good(open_server.post(RESPONSES, input="hi", max_output_tokens=3))["output"]
    response = open_server.post(RESPONSES, input=[*items, *HI], max_output_tokens=3)

    assert (chat.status_code, response.status_code) == (200, 200)
    assert HEADER not in chat.headers
    assert HEADER not in response.headers


@pytest.mark.parametrize("name", ["prefix", "partial"])
def test_a_prefix_is_continued(open_server: RunningServer, name: str):
    def text(**fields: Any) -> str:
        return str(good(open_server.post("/tokenize", **fields))["tokens"])

    plain, wanted = answered(), text(**answered(), continue_final_message=True)
    assert text(**answered(**{name: True})) == wanted
    assert text(**answered(**{name: True}), continue_final_message=True) == wanted
    assert text(**answered(**{name: False})) == text(**plain) != wanted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [*answered(prefix=True)["messages"], *HI]}, "messages[1].prefix"),
        ({**answered(partial=True), "add_generation_prompt": True}, "messages[1].partial"),
        ({**answered(prefix=True), "continue_final_message": False}, "messages[1].prefix"),
        (answered(prefix=True, tool_calls=[CALL]), "messages[1].prefix"),
        (answered(prefix="yes"), "messages[1].prefix"),
    ],
)
def test_what_cannot_be_continued_is_named(
    open_server: RunningServer, fields: dict[str, Any], param: str
):
    error = error_of(open_server.post(CHAT, **fields))

    assert error["param"] == param
    assert f"`{param}`" in error["message"]


def test_tools_of_other_types_have_fields_of_their_own(open_server: RunningServer):
    for path in (CHAT, RESPONSES):
        fields = skipped(name="x", parameters={"a": 1}, filters=[1], images=[1])
        response = open_server.http.post(path, json=body_of(path, fields))

        assert response.status_code == 200, response.text
        assert response.headers[HEADER] == "tools[0]"


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"function": FUNCTION, "parameters": {"a": 1}}, "tools[0].parameters"),
        ({"function": {"name": "f", "input_schema": {"a": 1}}}, "tools[0].function.input_schema"),
        ({"function": {**FUNCTION, "strict": False}, "strict": True}, "tools[0].strict"),
        ({"function": FUNCTION, "strict": "yes"}, "tools[0].strict"),
    ],
)
def test_a_definition_in_the_wrong_place_is_named(
    open_server: RunningServer, tool: dict[str, Any], param: str
):
    error = error_of(open_server.post(CHAT, messages=HI, tools=[{"type": "function", **tool}]))

    assert error["param"] == param


def test_everything_refused_says_what_to_do():
    advices = {
        fate.advice
        for fates in INSIDE.values()
        for fate in fates.values()
        if isinstance(fate, Refused)
    }
    assert all(advice.endswith(".") for advice in advices)
    assert len(advices) > 5
