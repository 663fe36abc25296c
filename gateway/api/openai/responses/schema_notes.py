"""Adds to a JSON schema what the Structs of responses do not say about their fields."""

from typing import Any, get_args

from gateway.api.openai.responses.protocol import InputItem, ResponseTool
from gateway.api.openai.responses.unsupported import describe, describe_inside
from gateway.api.openai.schema_notes import Schemas, note_extensions

PARTS = (ResponseTool, *get_args(InputItem))
"""Types of the lists that are read in a second step."""

_OTHER = {
    "type": "object",
    "properties": {"type": {"type": "string"}},
    "required": ["type"],
    "description": "A tool that is no function, which is skipped.",
}


def note_responses(schemas: Schemas) -> None:
    """Adds what becomes of the fields of a response."""
    properties = schemas["ResponseRequest"]["properties"]
    _note_lists(properties)
    describe(properties)
    describe_inside(schemas)
    note_extensions(properties)


def _note_lists(properties: dict[str, Any]) -> None:
    """Adds the types of the items that `gateway.api.openai.responses.protocol` reads in a second
    step."""
    for schema in (*properties["input"]["anyOf"], *properties["tools"]["anyOf"]):
        if schema.get("type") == "array":
            is_input = schema in properties["input"]["anyOf"]
            tools = {"anyOf": [_reference(ResponseTool), _OTHER]}
            schema["items"] = item_schema() if is_input else tools


def item_schema() -> dict[str, Any]:
    """The schema of an item that a client sends."""
    return {"anyOf": [_reference(kind) for kind in get_args(InputItem)]}


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
