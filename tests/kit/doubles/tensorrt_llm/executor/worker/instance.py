"""The smallest text that a JSON schema or a regular expression allows."""

import re
from collections.abc import Callable
from typing import Any

_parser = re._parser  # type: ignore[attr-defined]  # the standard library's, without a public name


class Unsupported(ValueError):
    """Valid perhaps, but more than the double makes an instance of."""


def instance_of_schema(schema: Any, root: Any) -> Any:
    """A value that fulfils `schema`; references are looked up in `root`."""
    if schema is True or schema == {}:
        return {}
    if not isinstance(schema, dict):
        raise Unsupported(f"a schema is an object, not {schema!r}")
    if "$ref" in schema:
        return instance_of_schema(_referred(schema["$ref"], root), root)
    for key in ("const", "enum"):
        if key in schema:
            return schema[key] if key == "const" else schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return instance_of_schema(schema[key][0], root)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind not in _MAKERS:
        raise Unsupported(f"unknown type {kind!r}")
    return _MAKERS[kind](schema, root)


def _referred(reference: str, root: Any) -> Any:
    target = root
    for part in reference.removeprefix("#").split("/")[1:]:
        if part not in target:
            raise Unsupported(f"nothing is at {reference!r}")
        target = target[part]
    return target


def _object(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    properties = schema.get("properties", {})
    return {name: instance_of_schema(properties[name], root) for name in properties}


def _array(schema: dict[str, Any], root: Any) -> list[Any]:
    return [instance_of_schema(schema.get("items", True), root)] * schema.get("minItems", 1)


def _string(schema: dict[str, Any], root: Any) -> str:
    if "pattern" in schema:
        return instance_of_regex(schema["pattern"])
    return "a" * max(1, schema.get("minLength", 1))


def _number(schema: dict[str, Any], root: Any) -> int:
    return int(schema.get("minimum", schema.get("maximum", 1)))


_MAKERS: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": lambda schema, root: True,
    "null": lambda schema, root: None,
}


def instance_of_regex(pattern: str) -> str:
    """A text that the pattern matches as a whole: first alternatives, fewest repetitions."""
    text = "".join(_piece(operator, value) for operator, value in _parser.parse(pattern))
    if re.fullmatch(pattern, text) is None:
        raise Unsupported(f"the double finds no text for {pattern!r}")
    return text


def _piece(operator: Any, value: Any) -> str:
    name = str(operator)
    if name == "LITERAL":
        return chr(value)
    if name == "NOT_LITERAL":
        return "b" if value == ord("a") else "a"
    if name == "ANY":
        return "a"
    if name == "AT":
        return ""
    if name == "IN":
        return _member(value)
    if name == "BRANCH":
        return "".join(_piece(*part) for part in value[1][0])
    if name == "SUBPATTERN":
        return "".join(_piece(*part) for part in value[3])
    if name in ("MAX_REPEAT", "MIN_REPEAT"):
        return "".join(_piece(*part) for part in value[2]) * value[0]
    raise Unsupported(f"the double does not know {name} in a regular expression")


def _member(parts: list[Any]) -> str:
    operator, value = parts[0]
    name = str(operator)
    if name == "LITERAL":
        return chr(value)
    if name == "RANGE":
        return chr(value[0])
    if name == "CATEGORY":
        return {"CATEGORY_DIGIT": "0", "CATEGORY_WORD": "a", "CATEGORY_SPACE": " "}.get(
            str(value), "."
        )
    raise Unsupported(f"the double does not know {name} in a set")
