"""What requests may say about the form of their answers, and what comes of it."""

import json
from typing import Any

import msgspec
import pytest

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    decode_chat_completion,
    decode_completion,
)
from gateway.api.openai.translate.structured_output import MAX_GRAMMAR_LENGTH, structured_output
from gateway.chat.schemas import MAX_SCHEMA_LENGTH
from gateway.http.decoding import MISTAKES, to_invalid_request
from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def wanted(**fields: Any) -> StructuredOutput | None:
    """The same for both endpoints. Raises InvalidRequest."""
    chat = json.dumps({**CHAT, **fields}).encode()
    completion = json.dumps({"model": "m", "prompt": "p", **fields}).encode()
    try:
        data = decode_chat_completion(chat), decode_completion(completion)
    except MISTAKES as error:
        raise to_invalid_request(error, ChatCompletionRequest) from error
    first, second = map(structured_output, data)
    assert first == second
    return first


def json_schema(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": fields}


def test_text_and_nothing_ask_for_nothing():
    assert wanted() is None
    assert wanted(response_format=None, structured_outputs=None, guided_json=None) is None
    assert wanted(response_format={"type": "text"}) is None


def test_a_schema_that_does_not_say_has_no_room_for_more():
    schema = {"properties": {"z": {}, "a": {"maximum": 1.5}}}
    found = wanted(response_format=json_schema(name="n", schema=schema))

    assert found is not None
    assert json.loads(found.json or "") == {**schema, "additionalProperties": False}
    assert list(json.loads(found.json or "")["properties"]) == ["z", "a"]


@pytest.mark.parametrize("strict", [{}, {"strict": True}, {"strict": False}, {"strict": None}])
def test_a_schema_keeps_its_text(strict: dict[str, Any]):
    schema = '{"properties": {"z": {}, "a": {"maximum": 1.0}}, "additionalProperties": true}'
    body = json.dumps({**CHAT, "response_format": json_schema(name="n", schema=0, **strict)})

    data = decode_chat_completion(body.replace('"schema": 0', f'"schema": {schema}').encode())

    assert structured_output(data) == StructuredOutput(
        json=schema, source="response_format", is_strict=strict.get("strict") is True
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "json_object"}}, {"json_object": True}),
        ({"response_format": {"type": "json_object", "schema": None}}, {"json_object": True}),
        (
            {"response_format": {"type": "json_object", "schema": {"properties": {"a": {}}}}},
            {
                "json": '{"type":"object","properties":{"a":{}},"additionalProperties":false}',
            },
        ),
        (
            {"response_format": {"type": "json_object", "schema": '{"type": "object"}'}},
            {"json": '{"type":"object"}'},
        ),
        (
            {"response_format": {"type": "json_schema", "schema": {"type": "null"}}},
            {"json": '{"type": "null"}'},
        ),
        ({"structured_outputs": {"json_object": True}}, {"json_object": True}),
        ({"structured_outputs": {"json": {"type": "null"}}}, {"json": '{"type": "null"}'}),
        ({"structured_outputs": {"json": '{"type": "null"}'}}, {"json": '{"type": "null"}'}),
        ({"structured_outputs": {"regex": "a", "json": None}}, {"regex": "a"}),
        ({"structured_outputs": {"choice": ["a", "b"]}}, {"choice": ("a", "b")}),
        ({"structured_outputs": {"grammar": "g"}}, {"grammar": "g"}),
        ({"guided_json": {"type": "null"}}, {"json": '{"type": "null"}'}),
        ({"guided_regex": "a"}, {"regex": "a"}),
        ({"guided_choice": ["a"]}, {"choice": ("a",)}),
        ({"guided_grammar": "g", "response_format": {"type": "text"}}, {"grammar": "g"}),
    ],
)
def test_all_ways_to_ask(fields: dict[str, Any], expected: dict[str, Any]):
    assert wanted(**fields) == StructuredOutput(source=next(iter(fields)), **expected)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"response_format": "json"}, "response_format", "object"),
        ({"response_format": {}}, "response_format.type", "required"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "xml"),
        ({"response_format": {"type": "text", "schema": {}}}, "response_format.schema", "schema"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "required",
        ),
        (
            {"response_format": json_schema(name="n")},
            "response_format.json_schema.schema",
            "required",
        ),
        (
            {"response_format": json_schema(schema={})},
            "response_format.json_schema.name",
            "required",
        ),
        (
            {"response_format": json_schema(name="a b", schema={})},
            "response_format.json_schema.name",
            "regex",
        ),
        (
            {"response_format": json_schema(name="n" * 65, schema={})},
            "response_format.json_schema.name",
            "regex",
        ),
        (
            {"response_format": json_schema(name="n", schema={}, strict="yes")},
            "response_format.json_schema.strict",
            "bool",
        ),
        (
            {"response_format": json_schema(name="n", schema=None)},
            "response_format.json_schema.schema",
            "object",
        ),
        ({"guided_json": [1]}, "guided_json", "object"),
        ({"guided_json": True}, "guided_json", "object"),
        ({"guided_json": "{"}, "guided_json", "not valid JSON"),
        ({"structured_outputs": {"json": 3}}, "structured_outputs.json", "object"),
        (
            {"response_format": {"type": "json_object", "schema": 3}},
            "response_format.schema",
            "obj",
        ),
        (
            {"response_format": {"type": "json_object", "strict": True}},
            "response_format.strict",
            "strict",
        ),
        ({"structured_outputs": {}}, "structured_outputs", "is empty"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs", "is empty"),
        (
            {"structured_outputs": {"structural_tag": "x"}},
            "structured_outputs.structural_tag",
            "tag",
        ),
        ({"guided_choice": []}, "guided_choice", "length"),
        ({"guided_choice": ["a", ""]}, "guided_choice[1]", "length"),
        ({"guided_regex": "a" * (MAX_SCHEMA_LENGTH + 1)}, "guided_regex", "too long"),
        ({"guided_choice": ["a" * MAX_SCHEMA_LENGTH, "b"]}, "guided_choice", "too long"),
        ({"guided_grammar": "a" * (MAX_GRAMMAR_LENGTH + 1)}, "guided_grammar", "too long"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs", "both"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice", "both"),
        (
            {"response_format": {"type": "json_object"}, "guided_regex": "a"},
            "guided_regex",
            "both",
        ),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs",
            "both",
        ),
    ],
)
def test_mistakes_are_named(fields: dict[str, Any], param: str, words: str):
    with pytest.raises(InvalidRequest) as caught:
        wanted(**fields)
    assert caught.value.param == param
    assert words in str(caught.value)


def test_a_schema_without_a_bottom_is_refused():
    deep = b'{"model":"m","prompt":"p","guided_json":' + b'{"a":' * 5000 + b"1" + b"}" * 5001
    try:
        data = decode_completion(deep)
    except MISTAKES:
        return
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        structured_output(data)


def test_the_text_of_a_schema_may_be_any_unicode():
    schema = {"const": "日本 😀 \\u0000"}
    asked = wanted(guided_json=schema)

    assert asked is not None
    assert asked.json is not None
    assert msgspec.json.decode(asked.json) == schema
