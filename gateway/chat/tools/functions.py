"""The functions of a request, checked. Every family of endpoints uses these checks. Pure."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw

from gateway.chat.schemas import MAX_SCHEMA_LENGTH, decode_json
from gateway.chat.tools.strict_schema import closed
from gateway.chat.tools.tool_use import ArgumentSchema, FunctionSpec
from runtime.errors import InvalidRequest

NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}
"""The schema of a function that declares none."""

_OPENING = frozenset(
    (
        *("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames"),
        *("allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "minProperties"),
    )
)
"""Keywords by which an object with `properties: {}` may have properties after all."""

MAX_REMEMBERED_LENGTH = 8192
"""Characters of a schema that is parsed once and remembered."""


def argument_schema(raw: Raw, param: str) -> ArgumentSchema:
    """The JSON schema of a function's arguments. Raises InvalidRequest, which names `param`.

    An agent sends the same tools with every request, so the last schemas are remembered.
    """
    text = bytes(raw)
    if text in (b"", b"null"):
        return _no_arguments()
    parse = _remembered if len(text) <= MAX_REMEMBERED_LENGTH else _parsed
    return parse(text, param)


def _parsed(text: bytes, param: str) -> ArgumentSchema:
    schema = decode_json(text, param)
    named = schema.get("type") if isinstance(schema, dict) else "none"
    if not (named is None or named == "object" or (isinstance(named, list) and "object" in named)):
        raise InvalidRequest(
            f'`{param}` has to be a JSON schema of an object, with `type` "object".',
            param=param,
            code="invalid_function_parameters",
        )
    schema = {**schema, "type": "object"}
    try:
        return _argument_schema(schema, _closed(schema))
    except RecursionError as error:
        raise InvalidRequest(f"`{param}` is nested too deeply.", param=param) from error


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without properties that it does not name. A function with an empty list of
    parameters has none, as generators write it; within its arguments such an object is free."""
    if schema.get("properties") == {} and not _OPENING & schema.keys():
        return {**schema, "additionalProperties": False}
    named: dict[str, Any] = closed(schema)
    return named


def _no_arguments() -> ArgumentSchema:
    return _argument_schema(dict(NO_ARGUMENTS), {**NO_ARGUMENTS, "additionalProperties": False})


def _argument_schema(schema: dict[str, Any], closed_schema: dict[str, Any]) -> ArgumentSchema:
    return ArgumentSchema(schema, closed_schema, json.dumps(closed_schema, ensure_ascii=False))


_remembered = lru_cache(maxsize=256)(_parsed)


def check_functions(functions: Sequence[FunctionSpec]) -> None:
    """Raises InvalidRequest if two functions have one name, or if their schemas together are too
    long."""
    length = sum(len(function.arguments.closed_text) for function in functions)
    if length > MAX_SCHEMA_LENGTH:  # perhaps only because its JSON has blanks
        length = sum(len(msgspec.json.encode(each.arguments.schema)) for each in functions)
    if length > MAX_SCHEMA_LENGTH:
        raise InvalidRequest(
            f"The schemas of all tools together are too long: {length} characters, and at most"
            f" {MAX_SCHEMA_LENGTH} are read.",
            param="tools",
        )
    seen: set[str] = set()
    for function in functions:
        if function.name in seen:
            raise InvalidRequest(
                f"`{function.where}.name` is `{function.name}`, which an earlier tool is called"
                " already.",
                param=f"{function.where}.name",
                code="invalid_value",
            )
        seen.add(function.name)


def named_functions(
    functions: Sequence[FunctionSpec], names: Sequence[str], param: str
) -> tuple[FunctionSpec, ...]:
    """The functions with these names, each once. Raises InvalidRequest, which names `param`, for a
    name that no function has."""
    by_name = {function.name: function for function in functions}
    for name in names:
        if name not in by_name:
            raise InvalidRequest(
                f"`{param}` names the function `{name}`, which is not among the tools.",
                param=param,
                code="invalid_value",
            )
    return tuple(by_name[name] for name in dict.fromkeys(names))
