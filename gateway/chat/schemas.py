"""JSON schemas of requests: decoded, checked and bounded. Pure."""

from typing import Any

import msgspec
from msgspec import Raw

from gateway.chat.tools.strict_schema import closed
from runtime.errors import InvalidRequest

MAX_SCHEMA_LENGTH = 262_144
"""Characters of a schema, of a regular expression, of all choices, or of the schemas of all tools
together."""


def schema_text(raw: Raw, param: str) -> str:
    """The text of a schema, with its keys in the client's order. The client may send the schema
    itself or its text in a string. Raises InvalidRequest, which names `param`."""
    if is_left_out(raw):
        message = f"`{param}` is required: a JSON schema, which is an object."
        raise InvalidRequest(message, param=param, code="missing_required_parameter")
    schema = decode_json(bytes(raw), param)
    text = bytes(raw).decode()
    if isinstance(schema, str):
        text, schema = schema, decode_json(schema.encode("utf-8", "replace"), param)
    if not isinstance(schema, dict):
        raise InvalidRequest(f"`{param}` is no JSON schema: it must be an object.", param=param)
    return text


def is_left_out(raw: Raw) -> bool:
    """Whether the field is missing, or null."""
    return bytes(raw) in (b"", b"null")


def object_schema_text(raw: Raw, param: str) -> str:
    """Like `closed_schema_text`, for a schema whose values are objects even if it does not say
    so."""
    schema = decode_json(closed_schema_text(raw, param).encode(), param)
    return msgspec.json.encode({"type": "object", **schema}).decode()


def closed_schema_text(raw: Raw, param: str) -> str:
    """Like `schema_text`, but the schema forbids properties that it does not name. A schema that is
    like this already keeps its text."""
    text = schema_text(raw, param)
    schema = decode_json(text.encode(), param)
    try:
        result = closed(schema)
    except RecursionError as error:
        raise InvalidRequest(f"`{param}` is nested too deeply.", param=param) from error
    return text if result == schema else msgspec.json.encode(result).decode()


def check_length(length: int, param: str, limit: int = MAX_SCHEMA_LENGTH) -> None:
    """Raises InvalidRequest for more than `limit` characters."""
    if length > limit:
        raise InvalidRequest(
            f"`{param}` is too long: {length} characters, and at most {limit} are read.",
            param=param,
        )


def decode_json(text: bytes | Raw, param: str) -> Any:
    """The value of a JSON text. Raises InvalidRequest, which names `param`."""
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise InvalidRequest(f"`{param}` is nested too deeply.", param=param) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"`{param}` is not valid JSON: {error}.", param=param) from error
