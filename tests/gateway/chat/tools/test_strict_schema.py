"""Objects that name their properties have no others, where that cannot forbid what is wanted."""

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.tools.strict_schema import closed

NAMED = {"type": "object", "properties": {"a": {"type": "integer"}}}
CLOSED = {**NAMED, "additionalProperties": False}
NESTED = {"properties": {"properties": CLOSED}, "additionalProperties": False}
NONE = {"type": "object", "properties": {}}
REQUIRES = {**NAMED, "required": ["a", "b"]}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (NAMED, CLOSED),
        ({**NAMED, "additionalProperties": None}, CLOSED),
        (
            REQUIRES,
            {
                **REQUIRES,
                "properties": {**NAMED["properties"], "b": {}},
                "additionalProperties": False,
            },
        ),
        ({"anyOf": [NAMED], **NONE}, {"anyOf": [CLOSED], **NONE}),
        ({"patternProperties": {"^x": NAMED}}, {"patternProperties": {"^x": CLOSED}}),
        ({"items": [NAMED]}, {"items": [CLOSED]}),
        ({"allOf": [NAMED]}, {"allOf": [CLOSED]}),
        ({"type": "array", "items": NAMED}, {"type": "array", "items": CLOSED}),
        ({"anyOf": [NAMED, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        (
            {"$defs": {"x": NAMED}, "$ref": "#/$defs/x"},
            {"$defs": {"x": CLOSED}, "$ref": "#/$defs/x"},
        ),
        ({"properties": {"properties": NAMED}}, NESTED),
    ],
)
def test_what_names_its_properties_is_closed(schema, expected):
    assert closed(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        NONE,
        {**NONE, "required": []},
        {"properties": {"data": NONE}, "additionalProperties": False},
        {"$defs": {"x": NONE}, "items": {"anyOf": [NONE, {"$ref": "#/$defs/x"}]}},
        {"anyOf": [NAMED], "oneOf": [{"required": ["b"]}]},
        {"$ref": "#/$defs/x", "$defs": {"x": NAMED}, "allOf": [{"required": ["b"]}]},
        {**NAMED, "additionalProperties": True},
        {**NAMED, "patternProperties": {"^x": {}}},
        {"allOf": [NAMED, {"type": "object", "properties": {"b": {}}}]},
        {**NAMED, "anyOf": [{"properties": {"b": {}}}, {"required": ["a"]}]},
        {"$defs": {"x": NAMED}, "allOf": [{"$ref": "#/$defs/x"}, {"properties": {"b": {}}}]},
        {"$defs": {"x": NAMED}, "properties": {"b": {}}, "$ref": "#/$defs/x"},
        {"items": {"allOf": [{"properties": {"b": {}}}], "properties": {"a": {}}}},
        {"allOf": 5},
        {"enum": [{"properties": {}}], "const": {"properties": {"a": 1}}},
        True,
    ],
)
def test_the_rest_stays_as_it_is(schema):
    assert closed(schema) == schema


@given(st.dictionaries(st.sampled_from("abc"), st.integers()))
def test_what_is_named_stays_allowed(value):
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in "abc"}}

    assert jsonschema.Draft202012Validator(closed(schema)).is_valid(value)
