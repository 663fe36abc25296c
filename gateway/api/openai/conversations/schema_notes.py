"""Adds to a JSON schema what the Structs of conversations do not say about their items."""

from gateway.api.openai.responses.schema_notes import item_schema
from gateway.api.openai.schema_notes import Schemas


def note_conversations(schemas: Schemas) -> None:
    """Adds the types of the items that are read in a second step."""
    for name in ("CreateConversation", "AddItems"):
        schema = schemas[name]["properties"]["items"]
        for each in schema.get("anyOf", [schema]):
            if each.get("type") == "array":
                each["items"] = item_schema()
