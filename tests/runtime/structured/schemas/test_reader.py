"""Schemas in the compiler's spelling: the same in other words, or less."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runtime.structured.schemas.keywords import MalformedSchema
from runtime.structured.schemas.reader import read_schema

LOOK = "(?=x)"
KNOWN = {"$defs": {"t": {"const": 1, "type": "integer"}, "f": {"not": {"const": 2}}}}


def pattern_error(pattern: str) -> str:
    return "look-around" if LOOK in pattern else ""


def read(schema: dict[str, Any], **options: bool) -> tuple[Any, list[str]]:
    result = read_schema(schema, pattern_error, **options)
    return result.schema, list(result.left_out)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"title": "x", "default": 1, "xml": {}, "nullable": True, "$comment": "c"}, {}),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"minimum": 1, "exclusiveMinimum": False}, {"minimum": 1}),
        ({"exclusiveMaximum": True}, {}),
        ({"items": {}, "additionalItems": False}, {"items": {}}),
        ({"minLength": 1.0}, {"minLength": 1}),
        ({"additionalProperties": {"not": {}}}, {"additionalProperties": False}),
        ({"not": False, "uniqueItems": False, "propertyNames": True}, {}),
        ({"propertyNames": {"type": ["string", "null"], "title": "k"}}, {}),
        (
            {"propertyNames": {"const": "a"}, "additionalProperties": {"type": "null"}},
            {
                "properties": {"a": {"$ref": "#/$defs/additionalProperties"}},
                "additionalProperties": False,
                "$defs": {"additionalProperties": {"type": "null"}},
            },
        ),
        (
            {"properties": {"a": {}}, "unevaluatedProperties": {"type": "null"}},
            {"properties": {"a": {}}, "additionalProperties": {"type": "null"}},
        ),
        (
            {"additionalProperties": True, "unevaluatedProperties": False},
            {"additionalProperties": True},
        ),
        ({"unevaluatedItems": {"type": "null"}}, {"items": {"type": "null"}}),
        ({"type": "integer", "pattern": LOOK, "format": "none"}, {"type": "integer"}),
        ({"type": "string", "uniqueItems": True, "contains": {}}, {"type": "string"}),
        (
            {"oneOf": [{"type": "string"}, {"type": ["number", "null"]}]},
            {"anyOf": [{"type": "string"}, {"type": ["number", "null"]}]},
        ),
        (
            {"oneOf": [{"enum": [1, 2]}, {"const": True}]},
            {"anyOf": [{"enum": [1, 2]}, {"const": True}]},
        ),
        ({"contains": {}, "minContains": 0, "if": {"const": 1}}, {}),
    ],
)
def test_what_means_the_same(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    for is_strict in (False, True):
        assert read(schema, is_strict=is_strict) == (expected, [])


@pytest.mark.parametrize(
    ("schema", "expected", "left_out"),
    [
        (
            {"oneOf": [{"type": "integer"}, {"type": "number"}]},
            {"anyOf": [{"type": "integer"}, {"type": "number"}]},
            ["oneOf"],
        ),
        (
            {"oneOf": [{"const": 1}, {"const": 1.0}]},
            {"anyOf": [{"const": 1}, {"const": 1.0}]},
            ["oneOf"],
        ),
        ({"not": {"pattern": LOOK}, "if": {"pattern": LOOK}, "then": False}, {}, ["not", "if"]),
        (
            {"items": {"$ref": "#/not"}, "not": {"const": 1}},
            {"items": {"$ref": "#/$defs/not"}, "$defs": {"not": {"const": 1}}},
            ["not"],
        ),
        ({"$ref": "x:y"}, {}, ["$ref"]),
        (
            {"items": {"$ref": "#/a"}, "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}},
            {"items": {}},
            ["items.$ref"],
        ),
        ({"$ref": "#/type", "type": "object"}, {"type": "object"}, ["$ref"]),
        (
            {"patternProperties": {LOOK: {}}, "additionalProperties": False},
            {"patternProperties": {}},
            [f"patternProperties.{LOOK}", "additionalProperties"],
        ),
        ({"propertyNames": {"pattern": LOOK}}, {}, ["propertyNames"]),
        ({"type": [], "enum": [], "anyOf": []}, {}, ["type", "enum", "anyOf"]),
        ({"minItems": 3, "maxItems": 2}, {}, ["minItems", "maxItems"]),
        (
            {"$dynamicRef": "#a", "$defs": {"b": {"$id": "b", "$dynamicAnchor": "a"}}},
            {},
            ["$dynamicRef"],
        ),
    ],
)
def test_what_allows_more(
    schema: dict[str, Any], expected: dict[str, Any], left_out: list[str]
) -> None:
    assert read(schema) == (expected, left_out)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "strin"}, "type"),
        ({"type": ["string", 3]}, "type"),
        ({"type": 3}, "type"),
        ({"properties": {"a": {"type": "any"}}}, "properties.a.type"),
        ({"properties": [1]}, "properties"),
        ({"properties": {"a": 3}}, "properties"),
        ({"items": 3}, "items"),
        ({"items": [3]}, "items"),
        ({"anyOf": {}}, "anyOf"),
        ({"anyOf": [{"required": "a"}]}, "anyOf[0].required"),
        ({"enum": "a"}, "enum"),
        ({"minLength": -1}, "minLength"),
        ({"minLength": 1.5}, "minLength"),
        ({"maxItems": "3"}, "maxItems"),
        ({"maxItems": True}, "maxItems"),
        ({"minimum": "1"}, "minimum"),
        ({"multipleOf": 0}, "multipleOf"),
        ({"pattern": 3}, "pattern"),
        ({"$ref": 3}, "$ref"),
        ({"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"format": 1}}}, "$defs.a.format"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(schema: dict[str, Any], path: str) -> None:
    for is_strict in (False, True):
        with pytest.raises(MalformedSchema) as caught:
            read(schema, is_strict=is_strict)
        assert caught.value.path == path


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "xa", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)


def schemas(depth: int = 2) -> st.SearchStrategy[Any]:
    """Schemas with every keyword that is rewritten or left out, over a few names and values."""
    if depth == 0:
        return st.sampled_from(
            [
                {},
                {"type": "string"},
                {"type": "object"},
                {"const": 1},
                {"$ref": "#/$defs/t"},
                {"$ref": "#/$defs/f"},
                False,
            ]
        )
    inner = schemas(depth - 1)
    names = st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    some = st.lists(inner, min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array", "string", ["integer", "null"]]),
            "properties": names,
            "patternProperties": st.dictionaries(
                st.sampled_from(["a", LOOK, "^b"]), inner, max_size=2
            ),
            "additionalProperties": inner,
            "unevaluatedProperties": inner,
            "propertyNames": st.sampled_from(
                [
                    {"enum": ["a"]},
                    {"pattern": "b"},
                    {"pattern": LOOK},
                    {"type": "string"},
                    {"maxLength": 0},
                ]
            ),
            "required": st.lists(st.sampled_from("abc"), max_size=1),
            "items": inner,
            "prefixItems": some,
            "unevaluatedItems": inner,
            "contains": inner,
            "minContains": st.integers(0, 2),
            "uniqueItems": st.booleans(),
            "pattern": st.sampled_from(["a", LOOK]),
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(0, 2),
            "anyOf": some,
            "allOf": some,
            "oneOf": some,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "dependentRequired": st.just({"a": ["b"]}),
        },
    )


@settings(max_examples=300, deadline=None)
@given(schema=schemas(), value=VALUES)
def test_no_value_is_lost(schema: Any, value: Any) -> None:
    """Whatever fits a schema fits what is read of it, and where nothing is left out also the other
    way round."""
    if isinstance(schema, bool):
        return
    schema = {**schema, **KNOWN}
    after, left_out = read(schema)
    fits = Draft202012Validator(schema).is_valid(value)
    fits_after = Draft202012Validator(after).is_valid(value)

    assert fits_after or not fits, json.dumps(after)
    if not left_out:
        assert fits_after == fits, json.dumps(after)


@pytest.mark.slow
def test_much_is_read_in_a_moment() -> None:
    """Many references to one place, a long chain of them, and many alternatives."""
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(300)}
    schema = {
        "$defs": {
            **chain,
            "d300": {"type": "object", "properties": {f"p{n}": {} for n in range(300)}},
        },
        "anyOf": [{"oneOf": [{"$ref": "#/$defs/d0"}] * 20} for _ in range(50)],
    }
    result, left_out = read(schema)
    assert len(json.dumps(result)) < 3 * len(json.dumps(schema))
    assert len(left_out) == 50
