"""Tools over HTTP: the scripted engine says calls, the tiny model is held to them."""

import json
from typing import Any, get_args

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator

from gateway.api.openai.protocol.requests import decode_chat_completion
from gateway.api.openai.translate.tools import find_tool_use
from gateway.chat.tools.dialects.gemma import GEMMA4
from gateway.chat.tools.dialects.generic import GENERIC
from gateway.chat.tools.dialects.hermes import HERMES
from gateway.chat.tools.dialects.mistral import MISTRAL
from gateway.chat.tools.find_dialect import DIALECTS
from gateway.chat.tools.functions import argument_schema
from gateway.chat.tools.tool_constraint import hidden_tokens, make_tool_constraint
from gateway.chat.tools.tool_use import ToolUse
from gateway.settings.schema import ToolDialect
from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput
from runtime.tokenizers.load import load_tokenizer
from tests.kit.chat.answers import CHAT, HI, good, streamed_messages, whole_messages
from tests.kit.chat.tools import CALL, SCHEMAS, TOOLS, check_calls, choice_of
from tests.kit.jobs import chat
from tests.kit.serving import RunningServer, scripted_settings, server_of


def told_by(response: httpx.Response) -> list[dict[str, Any]]:
    return whole_messages(good(response))


# On the scripted engine, which says calls and enforces nothing. Where it begins in its text depends
# on the prompt, so it says all of it twice: there is a whole call in that.

SCRIPT = f" Well... {CALL}"


scripted = server_of(
    scripted_settings(model={"tool_dialect": "hermes"}, text=SCRIPT, num_tokens=2 * len(SCRIPT))
)


@pytest.mark.parametrize("logprobs", [False, True])
def test_calls_that_the_model_chooses_to_make(scripted: RunningServer, logprobs: bool) -> None:
    """Streamed and whole; every token is told once, whatever it belongs to."""
    body = {"messages": HI, "tools": TOOLS, "n": 2, "logprobs": logprobs, "seed": 1}
    response = scripted.post(CHAT, **body)
    told = told_by(response)
    assert streamed_messages(scripted.chunks(CHAT, **body)) == told
    num_told = sum(len(message["logprobs"]) for message in told)
    assert num_told == (response.json()["usage"]["completion_tokens"] if logprobs else 0)
    for message in told:
        assert message["tool_calls"][0] == {"name": "toss", "arguments": '{"sure": true}'}
        assert message["finish_reason"] == "tool_calls"
        assert "Well..." in message["content"]


def test_no_calls_where_none_are_wanted(scripted: RunningServer) -> None:
    """`none`, and a tool that is not allowed: what the model says is content, tags and all."""
    other = choice_of("get_weather", mode="auto")
    for choice in ("none", other):
        [message] = told_by(scripted.chat(tools=TOOLS, tool_choice=choice))
        assert message["tool_calls"] == []
        assert CALL in message["content"]
        assert message["finish_reason"] == "stop"


def test_one_call_only(scripted: RunningServer) -> None:
    """A second call is not told."""
    settings = {"tools": TOOLS[1:], "ignore_eos": True, "max_tokens": 4 * len(SCRIPT)}
    [several] = told_by(scripted.chat(**settings))
    [single] = told_by(scripted.chat(**settings, parallel_tool_calls=False))
    assert len(several["tool_calls"]) > 2
    assert single["tool_calls"] == several["tool_calls"][:1]


def test_an_answer_that_was_cut_in_a_call(scripted: RunningServer) -> None:
    """Its limit is its reason, and the arguments are as far as they came."""
    for max_tokens in range(1, 2 * len(SCRIPT), 7):
        [message] = told_by(scripted.chat(tools=TOOLS, max_tokens=max_tokens))
        assert message["finish_reason"] == "length"
        for call in message["tool_calls"]:
            assert call["name"] == "toss"
            assert '{"sure": true}'.startswith(call["arguments"])


def test_functions_as_they_were_called_before(scripted: RunningServer) -> None:
    functions = [tool["function"] for tool in TOOLS]
    body = {"messages": HI, "functions": functions}
    [choice] = scripted.post(CHAT, **body).json()["choices"]
    call = {"name": "toss", "arguments": '{"sure": true}'}
    assert choice["message"]["function_call"] == call
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"
    deltas = [
        delta["function_call"]
        for chunk in scripted.chunks(CHAT, **body)
        if "function_call" in (delta := chunk["choices"][0]["delta"])
    ]
    assert deltas[0] == {"name": "toss", "arguments": ""}
    assert "".join(delta["arguments"] for delta in deltas) == call["arguments"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "toss"}}])
def test_an_engine_that_enforces_nothing_says_so(scripted: RunningServer, choice: Any) -> None:
    response = scripted.chat(tools=TOOLS, tool_choice=choice)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "tool_choice")
    assert error["code"] == "unsupported_parameter"


# On the tiny_server model, whose weights are random.


@pytest.mark.parametrize(
    ("choice", "names", "reason"),
    [
        ("required", tuple(SCHEMAS), "tool_calls"),
        (choice_of("toss", "stop_all"), ("toss", "stop_all"), "tool_calls"),
        ({"type": "function", "function": {"name": "get_weather"}}, ("get_weather",), "stop"),
    ],
)
def test_a_call_that_has_to_come_comes(
    tiny_server: RunningServer, choice: Any, names: tuple[str, ...], reason: str
) -> None:
    """Whatever the model would have said; streamed and whole are the same."""
    body = {
        "messages": HI,
        "tools": TOOLS,
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "n": 4,
        "seed": 3,
        "temperature": 1.3,
        "logprobs": True,
        "max_tokens": 200,
    }
    response = tiny_server.post(CHAT, **body)
    told = told_by(response)
    assert len(told) == 4
    for message in told:
        check_calls(message, *names)
        assert len(message["tool_calls"]) == 1
        assert message["finish_reason"] == reason
    num_told = sum(len(message["logprobs"]) for message in told)
    assert num_told == response.json()["usage"]["completion_tokens"]
    assert streamed_messages(tiny_server.chunks(CHAT, **body)) == told


def test_several_calls_may_come(tiny_server: RunningServer) -> None:
    """Random weights make as many calls as there is room for; all but the last are whole."""
    told = told_by(
        tiny_server.chat(
            tools=TOOLS[1:], tool_choice="required", n=4, seed=1, temperature=2.0, max_tokens=300
        )
    )
    assert max(len(message["tool_calls"]) for message in told) > 1
    for message in told:
        calls = message["tool_calls"]
        if message["finish_reason"] == "length":
            calls.pop()
        if calls:
            check_calls({"content": message["content"], "tool_calls": calls}, "toss", "stop_all")


def test_a_call_that_was_cut_is_no_call_yet(tiny_server: RunningServer) -> None:
    body = {"messages": HI, "tools": TOOLS, "tool_choice": "required", "max_tokens": 1}
    answer = good(tiny_server.post(CHAT, **body))
    [message] = whole_messages(answer, must_call=True)
    assert streamed_messages(tiny_server.chunks(CHAT, **body)) == [message]
    assert answer["choices"][0]["message"]["content"] is None
    assert message["tool_calls"] == []
    assert message["finish_reason"] == "length"


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "toss"}}, choice_of("toss")]
)
@pytest.mark.parametrize("stop", ["[", "name", "toss", "sure"])
def test_what_can_only_be_a_call_has_no_content(
    tiny_server: RunningServer, choice: Any, stop: str
) -> None:
    """Wherever a stop string ends it, before the call has begun or within it."""
    body = {"messages": HI, "tools": TOOLS[1:2], "tool_choice": choice, "stop": [stop]}
    [answered] = good(tiny_server.post(CHAT, **body, max_tokens=100))["choices"]
    assert answered["message"]["content"] is None
    assert ("tool_calls" in answered["message"]) == (stop == "sure")


def test_a_function_call_that_was_cut_has_no_content(tiny_server: RunningServer) -> None:
    functions = [tool["function"] for tool in TOOLS]
    body = {"messages": HI, "functions": functions, "function_call": {"name": "toss"}}
    [answered] = good(tiny_server.post(CHAT, **body, max_tokens=1))["choices"]
    assert answered["message"]["content"] is None
    assert "function_call" not in answered["message"]


def test_a_conversation_with_a_result(tiny_server: RunningServer) -> None:
    """The template of the tiny_server model knows no tools: all is told in plain words."""
    body = {"tools": TOOLS, "tool_choice": choice_of("toss"), "max_tokens": 200}
    response = tiny_server.chat(**body, parallel_tool_calls=False)
    [choice] = response.json()["choices"]
    [call] = choice["message"]["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "heads"}
    messages = [*HI, choice["message"], result]
    answer = tiny_server.post(
        CHAT, messages=messages, max_tokens=5, logit_bias={"0": 0}, tools=TOOLS
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > response.json()["usage"]["prompt_tokens"]


def test_a_schema_that_nobody_can_read_is_a_400(tiny_server: RunningServer) -> None:
    """With the place of the mistake, streamed or not; a strict one has to be enforced in full."""
    broken = {"type": "object", "properties": {"a": {"type": "strin"}}}
    hard = {"type": "object", "properties": {"a": {"not": {"const": 1}}}}
    for schema, strict in ((broken, False), (hard, True)):
        function = {"name": "f", "parameters": schema, "strict": strict}
        for stream in (False, True):
            response = tiny_server.chat(
                tools=[{"type": "function", "function": function}], stream=stream
            )
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (400, "invalid_function_parameters")
            assert error["param"] == "tools[0].function.parameters"
            assert "`properties.a." in error["message"]


def test_a_format_and_tools(tiny_server: RunningServer) -> None:
    """The answer fits the format or is a call."""
    schema = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 2}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    told = told_by(
        tiny_server.chat(
            tools=TOOLS[1:2],
            response_format=wanted,
            n=8,
            temperature=2.0,
            seed=2,
            max_tokens=300,
            parallel_tool_calls=False,
        )
    )
    for message in told:
        if message["tool_calls"]:
            check_calls(message, "toss")
        elif message["finish_reason"] == "stop":
            Draft202012Validator(schema).validate(json.loads(message["content"]))
    assert any(message["finish_reason"] == "stop" for message in told)


# What is decided before any engine is asked.


def tool_use(**body: Any) -> ToolUse | None:
    raw = json.dumps({"model": "m", "messages": HI, **body}).encode()
    return find_tool_use(decode_chat_completion(raw))


@pytest.mark.parametrize("depth", [260, 400])
def test_a_schema_that_is_nested_too_deeply_is_refused(depth: int):
    parameters = '{"type":"object","properties":{"a":' * depth + "{}" + "}}" * depth
    function = {"name": "f", "parameters": msgspec.Raw(parameters.encode())}
    data = chat(tools=[{"type": "function", "function": function}])

    with pytest.raises(InvalidRequest, match="nested too deeply") as caught:
        find_tool_use(data)

    assert caught.value.param == "tools[0].function.parameters"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": choice_of("toss")}, "tool_choice"),
        ({"function_call": {"name": "toss"}}, "function_call"),
        ({"tools": TOOLS, "tool_choice": choice_of("toss", "nobody")}, "tool_choice"),
        ({"tools": [*TOOLS, TOOLS[1]]}, "tools[3].function.name"),
        ({"tools": TOOLS, "functions": [TOOLS[0]["function"]]}, "functions"),
        ({"tools": TOOLS, "function_call": "auto"}, "function_call"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "c"}}], "tool_choice": "required"},
            "tool_choice",
        ),
        (
            {"tools": [{"type": "web_search"}, *TOOLS], "tool_choice": choice_of("web_search")},
            "tool_choice",
        ),
        (
            {"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "c"}}},
            "tool_choice.type",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        (
            {"functions": [{"name": "f", "parameters": {"type": "string"}}]},
            "functions[0].parameters",
        ),
        (
            {"functions": [{"name": "f", "parameters": {"enum": ["x" * 300_000]}}]},
            "tools",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tool_use(**body)
    assert caught.value.param == param


def test_where_nothing_is_to_be_called() -> None:
    nothing: list[dict[str, Any]] = [
        {},
        {"tools": []},
        {"tools": None, "tool_choice": "auto"},
        {"tools": TOOLS, "tool_choice": "none"},
        {"functions": [{"name": "f"}], "function_call": "none"},
    ]
    assert [tool_use(**body) for body in nothing] == [None] * len(nothing)


def test_how_calls_are_had() -> None:
    """The plan for each kind of choice, engine and dialect."""
    tokenizer = load_tokenizer("")
    free, forced = tool_use(tools=TOOLS), tool_use(tools=TOOLS, tool_choice="required")
    assert free is not None
    assert forced is not None
    plan = make_tool_constraint(free, HERMES, tokenizer, None, has_tags=True)
    assert plan.structured_output is not None
    assert plan.structured_output.is_optional
    assert plan.structured_output.source == "tools"
    plan = make_tool_constraint(forced, MISTRAL, tokenizer, None, has_tags=True)
    assert plan.structured_output is not None
    assert plan.structured_output.structural_tag is not None
    assert not plan.structured_output.is_optional
    assert plan.structured_output.source == "tool_choice"
    for dialect, has_tags in ((MISTRAL, False), (GEMMA4, True)):
        plan = make_tool_constraint(forced, dialect, tokenizer, None, has_tags=has_tags)
        assert plan.structured_output is not None
        assert plan.structured_output.json is not None
    assert (
        make_tool_constraint(free, GEMMA4, tokenizer, None, has_tags=True).structured_output is None
    )
    for wanted in (StructuredOutput(regex="a"), StructuredOutput(choice=("a",))):
        with pytest.raises(InvalidRequest, match="JSON"):
            make_tool_constraint(free, GENERIC, tokenizer, wanted, has_tags=True)
    with pytest.raises(InvalidRequest, match="`response_format` cannot be enforced"):
        make_tool_constraint(
            free, GEMMA4, tokenizer, StructuredOutput(json_object=True), has_tags=True
        )


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("names", [("get_weather",), ("toss", "get_weather")])
def test_calls_in_plain_json(names: tuple[str, ...], parallel: bool) -> None:
    """For engines that enforce schemas only; references inside a tool's schema still lead there."""
    use = tool_use(tools=TOOLS, tool_choice=choice_of(*names), parallel_tool_calls=parallel)
    assert use is not None
    plan = make_tool_constraint(use, HERMES, load_tokenizer(""), None, has_tags=False)
    assert plan.structured_output is not None
    assert plan.structured_output.json is not None
    schema = json.loads(plan.structured_output.json)
    arguments = {"city": "Oslo", "unit": "celsius"}
    call: dict[str, Any] = {"name": "get_weather", "arguments": arguments}

    def fits(call: Any) -> bool:
        return bool(Draft202012Validator(schema).is_valid([call] if parallel else call))

    assert fits(call)
    assert not fits({**call, "arguments": {**arguments, "city": "x" * 13}})
    assert not fits({**call, "name": "stop_all"})
    parser = plan.new_parser()
    text = json.dumps([call, call] if parallel else call)
    pieces = [*parser.feed(text[:9]), *parser.feed(text[9:]), *parser.finish()]
    assert len({getattr(piece, "number", None) for piece in pieces}) == (2 if parallel else 1)


def test_marks_that_have_to_be_shown() -> None:
    """Those that are a token and stand for no text."""
    tokenizer = load_tokenizer("")
    marks = ("<|im_start|>", "<tool_call>", "x")
    assert hidden_tokens(marks, tokenizer) == {"<|im_start|>": 258}


def test_the_dialects_of_the_settings() -> None:
    """Every dialect can be set by its name, and nothing else."""
    assert set(get_args(ToolDialect)) == {"auto", *DIALECTS}


@pytest.mark.parametrize("named", ['"object"', "null", '["object", "null"]'])
def test_arguments_are_an_object_however_their_type_is_said(named: str) -> None:
    raw = msgspec.Raw(f'{{"type": {named}, "properties": {{"a": {{}}}}}}'.encode())

    assert argument_schema(raw, "tools[0]").schema["type"] == "object"


@pytest.mark.parametrize("named", ['"array"', '["string", "null"]', "[]", "7"])
def test_arguments_that_are_no_object_are_refused(named: str) -> None:
    with pytest.raises(InvalidRequest, match="JSON schema of an object"):
        argument_schema(msgspec.Raw(f'{{"type": {named}}}'.encode()), "tools[0]")


@pytest.mark.parametrize(
    ("fields", "takes_none"),
    [
        ({"properties": {}}, True),
        ({"properties": {}, "required": [], "title": "Nothing"}, True),
        ({"properties": {}, "additionalProperties": True}, False),
        ({"properties": {}, "patternProperties": {"^x": {}}}, False),
        ({}, False),
        ({"properties": {"data": {"type": "object", "properties": {}}}}, False),
    ],
)
def test_an_empty_list_of_parameters_is_none(fields: dict[str, Any], takes_none: bool) -> None:
    schema = msgspec.Raw(msgspec.json.encode({"type": "object", **fields}))
    closed = argument_schema(schema, "tools[0]").closed
    data = closed.get("properties", {}).get("data", {})

    is_closed = closed.get("additionalProperties") is False and not closed.get("properties")
    assert is_closed == takes_none
    assert data.get("additionalProperties") is not False
