"""The form of an answer: `response_format`, and vLLM's parameters for the same. Pure."""

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Raw, Struct

from gateway.api.openai.protocol.response_format import (
    Choices,
    JSONObjectFormat,
    JSONSchema,
    JSONSchemaFormat,
    ResponseFormat,
    StructuredOutputs,
)
from gateway.chat.schemas import (
    MAX_SCHEMA_LENGTH,
    check_length,
    closed_schema_text,
    is_left_out,
    object_schema_text,
    schema_text,
)
from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput

MAX_GRAMMAR_LENGTH = 65_536
"""Characters of a grammar, whose text takes longest to read."""


class AsksForStructure(Protocol):
    """The fields of a request that this module reads; all may be absent."""

    response_format: ResponseFormat | None
    structured_outputs: StructuredOutputs | None
    guided_json: Raw
    guided_regex: str | None
    guided_choice: Choices | None
    guided_grammar: str | None


def structured_output(data: AsksForStructure) -> StructuredOutput | None:
    """The constraint that the request asks for; None for plain text. Raises InvalidRequest, which
    names the field, for a text that is no schema, for one that is too long, and for two
    constraints."""
    asked = [*_of_response_format(data), *_of_structured_outputs(data), *_of_guided(data)]
    if not asked:
        return None
    if len(asked) > 1:
        raise InvalidRequest(
            f"`{_label(*asked[0])}` and `{_label(*asked[1])}` both say what the answer has to look"
            " like: send one of them.",
            param=asked[1][0],
        )
    ((path, fields),) = asked
    _check_length(path, fields)
    return StructuredOutput(source=path, **fields)


def _label(path: str, fields: Mapping[str, Any]) -> str:
    """The name of one constraint among those of a parameter that has several."""
    return f"{path}.{next(iter(fields))}" if path == "structured_outputs" else path


_Asked = list[tuple[str, dict[str, Any]]]


def _of_response_format(data: AsksForStructure) -> _Asked:
    match data.response_format:
        case JSONObjectFormat(schema):
            return [("response_format", json_object(schema, "response_format.schema"))]
        case JSONSchemaFormat(None, schema):
            return [("response_format", _bare_schema(schema))]
        case JSONSchemaFormat(JSONSchema(schema=schema, strict=strict)):
            path = "response_format.json_schema.schema"
            fields = {"json": closed_schema_text(schema, path), "is_strict": bool(strict)}
            return [("response_format", fields)]
    return []


def json_object(schema: Raw, path: str) -> dict[str, Any]:
    """The constraint of a JSON object that fits a schema, or of any if there is none."""
    if is_left_out(schema):
        return {"json_object": True}
    return {"json": object_schema_text(schema, path)}


def _bare_schema(schema: Raw) -> dict[str, Any]:
    if is_left_out(schema):
        raise InvalidRequest(
            "`response_format.json_schema` is required: an object with `name` and `schema`.",
            param="response_format.json_schema",
            code="missing_required_parameter",
        )
    return {"json": closed_schema_text(schema, "response_format.schema")}


def _of_structured_outputs(data: AsksForStructure) -> _Asked:
    wanted = data.structured_outputs
    if wanted is None:
        return []
    path = "structured_outputs"
    asked = [(path, fields) for fields in _fields(wanted.json, f"{path}.json", wanted)]
    if wanted.json_object:
        asked.append((path, {"json_object": True}))
    if not asked:
        raise InvalidRequest(
            f"`{path}` is empty: set one of json, regex, choice, grammar and json_object.",
            param=path,
        )
    return asked


def _of_guided(data: AsksForStructure) -> _Asked:
    guided = _Guided(data.guided_regex, data.guided_choice, data.guided_grammar)
    found = _fields(data.guided_json, "guided_json", guided)
    return [(f"guided_{next(iter(fields))}", fields) for fields in found]


class _Guided(Struct):
    regex: str | None
    choice: Choices | None
    grammar: str | None


def _fields(json: Raw, path: str, others: _Guided | StructuredOutputs) -> list[dict[str, Any]]:
    """The constraints that are set, each as a field of `StructuredOutput`."""
    fields: list[dict[str, Any]] = []
    if not is_left_out(json):
        fields.append({"json": schema_text(json, path)})
    if others.regex is not None:
        fields.append({"regex": others.regex})
    if others.choice is not None:
        fields.append({"choice": tuple(others.choice)})
    if others.grammar is not None:
        fields.append({"grammar": others.grammar})
    return fields


def _check_length(path: str, fields: dict[str, Any]) -> None:
    kind, value = next(iter(fields.items()))
    match value:
        case str():
            length = len(value)
        case tuple():
            length = sum(map(len, value))
        case _:
            length = 0
    check_length(length, path, MAX_GRAMMAR_LENGTH if kind == "grammar" else MAX_SCHEMA_LENGTH)
