"""Adds to a JSON schema what the Structs of chats and completions do not say about their fields."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from gateway.api.openai.translate.unsupported import (
    HARMLESS,
    NOT_SUPPORTED,
)
from gateway.generation.scheduling import MAX_PRIORITY, PRIORITIES

Schemas = dict[str, Any]
"""JSON schemas by the name of their type."""


def note_fields(kind: type[Struct]) -> Callable[[Schemas], None]:
    """Adds to the schema of `kind` what becomes of each field that has no meaning here."""

    def describe(schemas: Schemas) -> None:
        properties = schemas[kind.__name__]["properties"]
        refused = {name: values for name, values in NOT_SUPPORTED.items() if name in properties}
        for name, values in refused.items():
            description = "Not supported: refused unless it asks for nothing."
            properties[name] = {"enum": [None, *values], "description": description}
        for name in HARMLESS.keys() & properties.keys():
            properties[name]["description"] = f"Without effect on the answer: {HARMLESS[name]}."
        note_extensions(properties)

    return describe


def note_extensions(properties: dict[str, Any]) -> None:
    """Adds what the types do not say of fields that OpenAI does not have."""
    whole_number = {"type": "integer", "minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY}
    properties["priority"] = {
        "anyOf": [{"enum": [None, *PRIORITIES]}, whole_number],
        "description": "Lower is served first.",
    }
    properties["logit_bias"]["anyOf"][0]["propertyNames"] = {"pattern": "^[0-9]+$"}
