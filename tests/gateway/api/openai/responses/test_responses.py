"""/v1/responses: OpenAI's Responses API on the scripted engine, each answer and each event checked
against OpenAI's schemas; and from the engine's deltas on, however they are cut."""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.api.openai.responses.protocol import (
    ResponseRequest,
    decode_response_request,
    input_items,
)
from gateway.api.openai.responses.turns import turns_of
from gateway.api.openai.responses.unsupported import HARMLESS, REFUSED, REFUSED_INSIDE
from gateway.api.openai.responses.writer import ResponseWriter, new_response
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.chat.conversation import Turn, TurnCall
from gateway.chat.parsing.pieces import Parser
from gateway.chat.reasoning.formats import FORMATS, new_parser
from gateway.chat.tools.dialects.hermes import HERMES
from gateway.generation.assembler import Assembler
from gateway.generation.events import OutputParsing
from gateway.generation.writer import Head
from gateway.settings.schema import ServerSettings
from tests.kit.chat.answers import error_of, good
from tests.kit.chat.cuts import TOKENIZER, deltas
from tests.kit.openai.schemas import (
    REQUEST_FIELDS,
    check_answer,
    check_error,
    check_response,
    check_response_event,
)
from tests.kit.serving import (
    MODEL,
    RunningServer,
    raw_request,
    running_server,
    scripted_settings,
    server_of,
    wait_for,
)

URL = "/v1/responses"
SENTENCE = 'The "quick"\n\nbrown fox, 狐狸! '
ARGUMENTS = '{"city": "Zürich"}'
CALL = f'<tool_call>\n{{"name": "f", "arguments": {ARGUMENTS}}}\n</tool_call>'
SCRIPT = f"Shall I?</think>{CALL}"
FUNCTION: dict[str, Any] = {
    "type": "function",
    "name": "f",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
HEAD = Head("resp_1", 1, "m", "fp")


server = server_of(scripted_settings(engine={"max_model_len": 1000}, text=SENTENCE, num_tokens=60))


caller = server_of(
    scripted_settings(
        model={"tool_dialect": "hermes", "reasoning_parser": "deepseek_r1"},
        text=SCRIPT,
        num_tokens=2 * len(SCRIPT.encode()),
    )
)
"""Thinks, then calls; it begins anywhere in its text and says it twice."""


def parse(text: str) -> list[dict[str, Any]]:
    """The events of a stream: named, numbered, each as OpenAI has it, the last one an end."""
    assert text.endswith("\n\n")
    events = []
    for written in text[:-2].split("\n\n"):
        if written.startswith(":"):
            continue
        name, data = written.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        check_response_event(event)
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def fold(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a client makes of a stream; that it is in order, and true of its own end."""
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete", "response.failed")
    items: list[dict[str, Any]] = []
    done: set[int] = set()
    for event in events[2:-1]:
        kind, index = event["type"], event["output_index"]
        if kind == "response.output_item.added":
            assert index == len(items)
            assert event["item"]["status"] == "in_progress"
            items.append(event["item"])
            continue
        item = items[index]
        assert index not in done, "nothing comes behind the end of an item"
        if kind == "response.output_item.done":
            done.add(index)
            assert event["item"] == {**item, "status": event["item"]["status"]}
            items[index] = event["item"]
            continue
        assert event["item_id"] == item["id"]
        _apply(kind, event, item)
    end = events[-1]["response"]
    assert {event["response"]["id"] for event in (events[0], events[1])} == {end["id"]}
    if kinds[-1] == "response.failed":
        for index in set(range(len(items))) - done:
            items[index]["status"] = "incomplete"
    else:
        assert done == set(range(len(items)))
    assert end["output"] == items
    return dict(end)


def _apply(kind: str, event: dict[str, Any], item: dict[str, Any]) -> None:
    match kind:
        case "response.content_part.added":
            assert event["content_index"] == len(item["content"])
            assert event["part"]["text"] == ""
            item["content"].append(event["part"])
        case "response.output_text.delta":
            part = item["content"][event["content_index"]]
            part["text"] += event["delta"]
            part["logprobs"] += event["logprobs"]
        case "response.reasoning_text.delta":
            item["content"][event["content_index"]]["text"] += event["delta"]
        case "response.output_text.done":
            part = item["content"][event["content_index"]]
            assert (event["text"], event["logprobs"]) == (part["text"], part["logprobs"])
        case "response.reasoning_text.done":
            assert event["text"] == item["content"][event["content_index"]]["text"]
        case "response.content_part.done":
            assert event["part"] == item["content"][event["content_index"]]
        case "response.function_call_arguments.delta":
            item["arguments"] += event["delta"]
        case "response.function_call_arguments.done":
            assert (event["name"], event["arguments"]) == (item["name"], item["arguments"])
        case _:
            raise AssertionError(f"an event that is not known: {kind}")


def without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    """What two answers to the same question have in common; their ids are checked."""
    prefixes = {"message": "msg_", "reasoning": "rs_", "function_call": "fc_"}
    output = []
    for item in answer["output"]:
        assert item["id"].startswith(prefixes[item["type"]])
        assert item["type"] != "function_call" or item["call_id"].startswith("call_")
        output.append({key: item[key] for key in item.keys() - {"id", "call_id"}})
    same = answer.keys() - {"id", "created_at", "completed_at", "output", "usage"}
    usage = dict(answer.get("usage", {}))
    usage.pop("input_tokens_details", None)  # the second one finds the first one's prompt
    return {**{key: answer[key] for key in same}, "output": output, "usage": usage}


def ask(server: RunningServer, **body: Any) -> dict[str, Any]:
    """The whole answer, of which the stream says the same."""
    body = {"seed": 1, "input": "hi", **body}
    answer = good(server.post(URL, **body))
    check_response(answer)
    streamed = server.post(URL, **body, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert without_ids(fold(parse(streamed.text))) == without_ids(answer)
    return answer


def refused(server: RunningServer, **body: Any) -> dict[str, Any]:
    response = server.post(URL, **{"input": "hi", **body})
    check_error(response.json())
    return error_of(response)


def test_a_text(server: RunningServer):
    answer = ask(server, instructions="Be short.", metadata={"a": "b"}, user="u", store=True)
    chat = server.post(
        "/v1/chat/completions",
        messages=[{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}],
        seed=1,
    ).json()

    [message] = answer["output"]
    assert message["content"][0]["text"] == chat["choices"][0]["message"]["content"]
    assert answer["status"] == message["status"] == "completed"
    assert answer["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    assert answer["usage"]["output_tokens"] == chat["usage"]["completion_tokens"]
    assert answer["usage"]["total_tokens"] == chat["usage"]["total_tokens"]
    assert (answer["store"], answer["metadata"], answer["user"]) == (False, {"a": "b"}, "u")
    assert (answer["instructions"], answer["truncation"]) == ("Be short.", "disabled")
    assert (answer["id"][:5], answer["object"]) == ("resp_", "response")


def test_an_answer_that_is_cut(server: RunningServer):
    answer = ask(server, max_output_tokens=5)

    assert answer["status"] == answer["output"][0]["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert answer["usage"]["output_tokens"] == answer["max_output_tokens"] == 5


@pytest.mark.parametrize("asked", [{"top_logprobs": 2}, {}])
def test_log_probabilities(server: RunningServer, asked: dict[str, Any]):
    answer = ask(server, include=["message.output_text.logprobs"], max_output_tokens=9, **asked)
    part = answer["output"][0]["content"][0]

    assert len(part["logprobs"]) == answer["usage"]["output_tokens"] == 9
    said = b"".join(bytes(entry["bytes"]) for entry in part["logprobs"])
    assert said.decode(errors="ignore") == part["text"]
    assert ask(server, max_output_tokens=9)["output"][0]["content"][0]["logprobs"] == []


def test_thoughts_and_calls_are_items(caller: RunningServer):
    answer = ask(caller, tools=[FUNCTION])

    kinds = [item["type"] for item in answer["output"]]
    assert "reasoning" in kinds
    assert "function_call" in kinds
    call = next(item for item in answer["output"] if item["type"] == "function_call")
    assert (call["name"], json.loads(call["arguments"])) == ("f", json.loads(ARGUMENTS))
    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    assert answer["tools"][0]["parameters"] == FUNCTION["parameters"]
    assert answer["output"][0]["content"][0]["text"] in SCRIPT * 2


def test_thoughts_can_be_kept_short(caller: RunningServer):
    answer = ask(caller, reasoning={"effort": "none", "summary": "auto"})

    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] == 0
    assert answer["reasoning"] == {"effort": "none", "summary": None}


def test_items_become_messages():
    """Thoughts, words and calls of one turn are one message."""
    body = {
        "model": "m",
        "instructions": "Be short.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Oslo?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [],
             "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
             "content": [{"type": "output_text", "text": "Wait.", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2",
             "output": [{"type": "input_text", "text": "sun"}]},
            {"role": "assistant", "content": "Both."},
            {"role": "assistant", "content": "Really."},
        ],
    }  # fmt: skip
    data = decode_response_request(json.dumps(body).encode())

    calls = (TurnCall("c1", "f", {}), TurnCall("c2", "g", {}))
    assert turns_of(data.instructions, input_items(data)) == (
        Turn("system", "Be short."),
        Turn("user", "Oslo?"),
        Turn("assistant", "Wait.", reasoning="Hm.", calls=calls),
        Turn("tool", "rain", call_id="c1"),
        Turn("tool", "sun", call_id="c2"),
        Turn("assistant", "Both."),
        Turn("assistant", "Really."),
    )


def test_an_answer_can_be_sent_back(caller: RunningServer):
    """As clients do that keep the conversation themselves."""
    first = ask(caller, tools=[FUNCTION])
    call = next(item for item in first["output"] if item["type"] == "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    items = [{"role": "user", "content": "hi"}, *first["output"], result]

    assert ask(caller, input=items, tools=[FUNCTION])["status"] == "completed"


HI = {"role": "user", "content": "hi"}
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


ASKING = {"truncation": "auto", "n": 2, "background": True, "logprobs": True}


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


def test_responses_are_not_stored(server: RunningServer):
    answer = ask(server, max_output_tokens=1)
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
        response = server.http.request(method, f"{URL}/{answer['id']}{path}")
        assert response.status_code == 404
        check_error(response.json())
        assert response.json()["error"]["code"] == "response_not_found"
        assert "does not store" in response.json()["error"]["message"]


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
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(whole.id)


# From the engine's deltas on


def thinking_parser() -> Parser:
    numbers = itertools.count()
    calls = HERMES.new_parser(("f",), lambda: f"call_{next(numbers)}", None)
    return new_parser(FORMATS["deepseek_r1"], "inside", calls)


def run(text: str, cuts: Sequence[int], reason: str, logprobs: bool) -> dict[str, Any]:
    """Streams an answer and has it whole, from the same deltas; what it says."""
    answers = []
    for streams in (True, False):
        assembler = Assembler(["r0"], [7], parsing=OutputParsing(thinking_parser))
        writer = ChatLogprobsWriter(TOKENIZER) if logprobs else None
        data = decode_response_request(b'{"model": "m", "input": "hi"}')
        shape = ResponseWriter(new_response(data, [], HEAD), writer)
        frames = b""
        for output in deltas("r0", text, cuts, reason, logprobs):
            events = assembler.push([output])
            if streams:
                frames += shape.frames(events)
            else:
                shape.take(events)
        answers.append(
            fold(parse(frames.decode())) if streams else json.loads(shape.whole(assembler.result()))
        )
    streamed, whole = map(without_ids, answers)
    check_response(answers[1])
    assert streamed == whole
    return streamed


TEXT = f"Hm, ü.</think>Sö. {CALL}\n{CALL}"


@pytest.mark.slow
@pytest.mark.parametrize("logprobs", [False, True])
def test_one_answer_cut_at_every_place(logprobs: bool):
    size = len(TEXT.encode())
    expected = run(TEXT, [], "stop", logprobs)
    kinds = [item["type"] for item in expected["output"]]
    assert kinds == ["reasoning", "message", "function_call", "function_call"]
    for cut in range(1, size, 1 if not logprobs else 7):
        assert run(TEXT, [cut], "stop", logprobs) == expected
    assert run(TEXT, range(size), "stop", logprobs) == expected
    told = expected["output"][1]["content"][0]["logprobs"]
    assert len(told) == (size if logprobs else 0)


pieces = st.sampled_from(["a", "狐", " ", "</think>", "<think>", CALL, "<tool_call>", "{"])


@settings(max_examples=60, deadline=None)
@given(
    text=st.lists(pieces, min_size=1, max_size=6).map("".join),
    cuts=st.lists(st.integers(1, 300), max_size=6),
    reason=st.sampled_from(["stop", "length"]),
    logprobs=st.booleans(),
)
def test_random_answers_cut_at_random(text: str, cuts: list[int], reason: str, logprobs: bool):
    said = run(text, cuts, reason, logprobs)

    assert said == run(text, [], reason, logprobs)
    assert said["status"] == ("completed" if reason == "stop" else "incomplete")
    assert said["output"]
