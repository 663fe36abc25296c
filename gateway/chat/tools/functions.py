"""The functions of a request, checked. Every family of endpoints uses these checks. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from gateway.chat.schemas import MAX_SCHEMA_LENGTH, decode_json
from gateway.chat.tools.tool_use import FunctionSpec
from runtime.errors import InvalidRequest

NO_ARGUMENTS = {"type": "object", "properties": {}}
"""The schema of a function that declares none."""


def argument_schema(raw: Raw, param: str) -> dict[str, Any]:
    """The JSON schema of a function's arguments. Raises InvalidRequest, which names `param`."""
    if bytes(raw) in (b"", b"null"):
        return NO_ARGUMENTS
    schema = decode_json(raw, param)
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise InvalidRequest(
            f'`{param}` has to be a JSON schema of an object, with `type` "object".',
            param=param,
            code="invalid_function_parameters",
        )
    return {"type": "object", **schema}


def check_functions(functions: Sequence[FunctionSpec]) -> None:
    """Raises InvalidRequest if two functions have one name, or if their schemas together are too
    long."""
    length = sum(len(msgspec.json.encode(function.schema)) for function in functions)
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
