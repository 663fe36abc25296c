"""JSON schemas as generators and servers write them, each with what is left out of it."""

from typing import Any

from msgspec import Struct


class Written(Struct, frozen=True):
    """A schema as others write it. `left_out` are the paths of the keywords that are not enforced,
    and `fits` are values that have to stay possible."""

    schema: dict[str, Any]
    left_out: tuple[str, ...] = ()
    fits: tuple[Any, ...] = ()


def an_object(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    """An object with these properties, all of them required unless it is said which are."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }


STRING = {"type": "string"}
INTEGER = {"type": "integer"}
