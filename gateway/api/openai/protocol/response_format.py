"""Parameters for the form of an answer: OpenAI's `response_format`, vLLM's extensions."""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

Choices = Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    pass


class JSONObjectFormat(
    Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True, omit_defaults=True
):
    """With a `schema` the object fits it: llama.cpp's and Together's extension."""

    schema: Raw = msgspec.field(default_factory=Raw)


class JSONSchema(Struct, forbid_unknown_fields=True, kw_only=True):
    """With `strict` a keyword that cannot be enforced is an error; otherwise it is left out."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: Raw
    strict: bool | None = None
    description: str | None = None


class JSONSchemaFormat(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """`schema` alone, without the object around it, is llama.cpp's form."""

    json_schema: JSONSchema | None = None
    schema: Raw = msgspec.field(default_factory=Raw)


ResponseFormat = TextFormat | JSONObjectFormat | JSONSchemaFormat


class StructuredOutputs(Struct, forbid_unknown_fields=True, kw_only=True):
    """vLLM's extension. `json` is a schema, or a schema's text."""

    json: Raw = msgspec.field(default_factory=Raw)
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None
