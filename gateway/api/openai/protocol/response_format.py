"""What an answer has to look like: OpenAI's `response_format`, and vLLM's names for the same.

Pure: the shapes that requests have, and the one `StructuredOutput` that comes of them.
"""

from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.chat.tools.strict_schema import closed
from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput

MAX_LENGTH = 262_144
"""Characters of a schema, a regular expression or all choices together."""

MAX_GRAMMAR_LENGTH = 65_536
"""Characters of a grammar, whose text takes longest to read."""

Choices = Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    pass


class JSONObjectFormat(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    pass


class JSONSchema(Struct, forbid_unknown_fields=True, kw_only=True):
    """`strict` makes no difference: a schema is always enforced."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: Raw
    strict: bool | None = None
    description: str | None = None


class JSONSchemaFormat(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    json_schema: JSONSchema


ResponseFormat = TextFormat | JSONObjectFormat | JSONSchemaFormat


class StructuredOutputs(Struct, forbid_unknown_fields=True, kw_only=True):
    """vLLM's extension. `json` is a schema, or a schema's text."""

    json: Raw = msgspec.field(default_factory=Raw)
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None


class AsksForStructure(Protocol):
    """The fields of a request that this module reads; all may be absent."""

    response_format: ResponseFormat | None
    structured_outputs: StructuredOutputs | None
    guided_json: Raw
    guided_regex: str | None
    guided_choice: Choices | None
    guided_grammar: str | None


def structured_output(data: AsksForStructure) -> StructuredOutput | None:
    """What was asked for, None for plain text. Raises InvalidRequest, which names the field, for
    what is no schema, too long, or asked for twice."""
    asked = [*_of_response_format(data), *_of_structured_outputs(data), *_of_guided(data)]
    if not asked:
        return None
    if len(asked) > 1:
        raise InvalidRequest(
            f"`{asked[0][0]}` and `{asked[1][0]}` both say what the answer has to look like: send"
            " one of them.",
            param=asked[1][0],
        )
    ((path, fields),) = asked
    _check_length(path, fields)
    return StructuredOutput(source=path, **fields)


_Asked = list[tuple[str, dict[str, Any]]]


def _of_response_format(data: AsksForStructure) -> _Asked:
    match data.response_format:
        case JSONObjectFormat():
            return [("response_format", {"json_object": True})]
        case JSONSchemaFormat(json_schema):
            path = "response_format.json_schema.schema"
            return [("response_format", {"json": _closed(_schema(json_schema.schema, path), path)})]
    return []


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
    """What is set, each as a field of `StructuredOutput`."""
    fields: list[dict[str, Any]] = []
    if bytes(json) not in (b"", b"null"):
        fields.append({"json": _schema(json, path)})
    if others.regex is not None:
        fields.append({"regex": others.regex})
    if others.choice is not None:
        fields.append({"choice": tuple(others.choice)})
    if others.grammar is not None:
        fields.append({"grammar": others.grammar})
    return fields


def _schema(raw: Raw, path: str) -> str:
    """The text of a schema, with its keys in the order in which the client sent them."""
    schema = _decode(bytes(raw), path)
    text = bytes(raw).decode()
    if isinstance(schema, str):
        text, schema = schema, _decode(schema.encode("utf-8", "replace"), path)
    if not isinstance(schema, dict):
        raise InvalidRequest(f"`{path}` is no JSON schema: it must be an object.", param=path)
    return text


def _closed(text: str, path: str) -> str:
    """The schema with no room for what it does not name; as it was where that changes nothing."""
    schema = _decode(text.encode(), path)
    try:
        result = closed(schema)
    except RecursionError as error:
        raise InvalidRequest(f"`{path}` is nested too deeply.", param=path) from error
    return text if result == schema else msgspec.json.encode(result).decode()


def _decode(text: bytes, path: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise InvalidRequest(f"`{path}` is nested too deeply.", param=path) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"`{path}` is not valid JSON: {error}.", param=path) from error


def _check_length(path: str, fields: dict[str, Any]) -> None:
    ((kind, value),) = fields.items()
    length = 0 if kind == "json_object" else sum(map(len, value))
    limit = MAX_GRAMMAR_LENGTH if kind == "grammar" else MAX_LENGTH
    if length > limit:
        raise InvalidRequest(
            f"`{path}` is too long: {length} characters, and at most {limit} are read.", param=path
        )
