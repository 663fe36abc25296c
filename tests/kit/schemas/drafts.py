"""The keywords of all drafts in their spellings, and the corners between them."""

from collections.abc import Mapping

from tests.kit.schemas import INTEGER, STRING, Written, an_object

LOOK = "^(?!a)b?$"

SPELLINGS: Mapping[str, Written] = {
    **{
        f"$schema: {name}": Written({"$schema": name, **an_object(a=INTEGER)}, fits=({"a": 1},))
        for name in (
            "http://json-schema.org/draft-04/schema#",
            "http://json-schema.org/draft-06/schema",
            "https://json-schema.org/draft-07/schema#",
            "https://json-schema.org/draft/2019-09/schema",
            "http://json-schema.org/schema#",
            "a name",
            "https://example.org/own",
            "",
        )
    },
    "draft 4": Written(
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "id": "http://example.org/root.json",
            "definitions": {
                "n": {"id": "#num", **INTEGER, "minimum": 1, "exclusiveMinimum": True},
                "o": {"id": "http://example.org/other.json", "definitions": {"s": STRING}},
            },
            **an_object(
                a={"$ref": "#num"},
                b={"$ref": "root.json#/definitions/n"},
                c={"$ref": "other.json#/definitions/s"},
            ),
        },
        fits=({"a": 2, "b": 3, "c": "x"},),
    ),
    "a property named id": Written(
        an_object(id=STRING, x={"$ref": "#/properties/id"}), fits=({"id": "a", "x": "b"},)
    ),
    "anchors": Written(
        {"$defs": {"a": {"$anchor": "here", **INTEGER}}, **an_object(x={"$ref": "#here"})},
        fits=({"x": 1},),
    ),
    "dynamic anchors": Written(
        {
            "$id": "https://example.org/tree",
            "$dynamicAnchor": "node",
            **an_object(["v"], v=INTEGER, all={"type": "array", "items": {"$dynamicRef": "#node"}}),
        },
        fits=({"v": 1, "all": [{"v": 2, "all": []}]},),
    ),
    "recursion of 2019": Written(
        {
            "$schema": "https://json-schema.org/draft/2019-09/schema",
            "$recursiveAnchor": True,
            **an_object(["v"], v=INTEGER, next={"$recursiveRef": "#"}),
        },
        fits=({"v": 1, "next": {"v": 2}},),
    ),
    "tuples of old": Written(
        {
            "$schema": "http://json-schema.org/draft-06/schema#",
            **an_object(
                a={"type": "array", "items": [INTEGER], "additionalItems": False},
                b={"type": "array", "items": [INTEGER], "additionalItems": STRING},
                c={"type": "array", "items": INTEGER, "additionalItems": False},
            ),
        },
        fits=({"a": [1], "b": [1, "x"], "c": [1, 2]},),
    ),
    "tuples": Written(
        an_object(
            a={"type": "array", "prefixItems": [INTEGER], "items": STRING},
            b={"type": "array", "prefixItems": [INTEGER], "unevaluatedItems": False},
        ),
        fits=({"a": [1, "x"], "b": [1]},),
    ),
    "schemas that are true or false": Written(
        {"type": "object", "properties": {"a": True, "b": False}, "additionalProperties": False},
        fits=({"a": [1]}, {}),
    ),
    "escaped pointers": Written(
        {"$defs": {"a/b~c%": INTEGER}, **an_object(x={"$ref": "#/$defs/a~1b~0c%25"})},
        fits=({"x": 1},),
    ),
}

LOOSENED: Mapping[str, Written] = {
    "not": Written(an_object(a={"not": STRING}), ("properties.a.not",), ({"a": 1}, {"a": "x"})),
    "not not": Written(
        an_object(a={**STRING, "not": {"not": {"pattern": LOOK}}}),
        ("properties.a.not",),
        ({"a": "b"},),
    ),
    "if, then, else": Written(
        {
            **an_object(["a"], a=INTEGER, b=STRING),
            "if": {"properties": {"a": {"const": 1}}},
            "then": {"required": ["b"]},
            "else": {"not": {"required": ["b"]}},
        },
        ("if",),
        ({"a": 1, "b": "x"}, {"a": 2}),
    ),
    "then without if": Written({**an_object(a=INTEGER), "then": False}, fits=({"a": 1},)),
    "dependencies": Written(
        {
            **an_object(["a"], a=INTEGER, b=INTEGER),
            "dependentRequired": {"a": ["b"]},
            "dependentSchemas": {"b": {"required": ["a"]}},
            "dependencies": {"b": ["a"]},
        },
        ("dependencies", "dependentRequired", "dependentSchemas"),
        ({"a": 1, "b": 2},),
    ),
    "contains": Written(
        {"type": "array", "contains": INTEGER, "minContains": 2, "maxContains": 3},
        ("contains",),
        ([1, 2, "a"],),
    ),
    "contains nothing in particular": Written(
        {"type": "array", "contains": INTEGER, "minContains": 0}, fits=([1], [])
    ),
    "unevaluated beside others": Written(
        {
            "$defs": {"a": an_object(a=INTEGER)},
            "allOf": [{"$ref": "#/$defs/a"}],
            **an_object([], b=STRING),
            "unevaluatedProperties": False,
        },
        ("unevaluatedProperties",),
        ({"a": 1, "b": "x"},),
    ),
    "a pattern of names that cannot be read": Written(
        {
            "type": "object",
            "patternProperties": {LOOK: INTEGER, "^x_": STRING},
            "additionalProperties": False,
        },
        (f"patternProperties.{LOOK}", "additionalProperties"),
        ({"b": 1, "x_1": "s"},),
    ),
    "names beside properties": Written(
        {**an_object(["a"], a=INTEGER), "propertyNames": {"enum": ["a", "b"]}},
        ("propertyNames",),
        ({"a": 1, "b": 2},),
    ),
    "alternatives that overlap": Written(
        {"oneOf": [{**STRING, "maxLength": 3}, {**STRING, "pattern": "^a"}]},
        ("oneOf",),
        ("b", "aaaa"),
    ),
    "alternatives of alternatives": Written(
        {
            "oneOf": [an_object(t={"const": 1}), an_object(t={"const": 2})],
            "anyOf": [an_object(u={"const": 1}), an_object(u={"const": 2})],
        },
        fits=({"u": 2, "t": 1},),
    ),
    "references to nowhere": Written(
        an_object(
            a={"$ref": "#/$defs/none"},
            b={"$ref": "https://example.org/other.json"},
            c={"$ref": "#none"},
            d={"$ref": "#/properties/d"},
        ),
        tuple(f"properties.{name}.$ref" for name in "abcd"),
        ({"a": 1, "b": "x", "c": None, "d": []},),
    ),
    "references to nowhere beside what is unevaluated": Written(
        {
            "$ref": "https://example.org/other.json",
            **an_object(a=INTEGER, b={"$ref": "#none", "unevaluatedItems": False}),
            "unevaluatedProperties": False,
        },
        (
            *("$ref", "unevaluatedProperties"),
            *("properties.b.$ref", "properties.b.unevaluatedItems"),
        ),
        ({"a": 1, "b": [1], "c": 2},),
    ),
    "patterns of names that overlap": Written(
        {
            "type": "object",
            "patternProperties": {"^a": INTEGER, "b$": INTEGER},
            "additionalProperties": False,
        },
        ("patternProperties",),
        ({"ab": 1, "axb": 2},),
    ),
    "bounds that nothing fits": Written(
        an_object(a={**INTEGER, "minimum": 3, "maximum": 1}, b={**STRING, "enum": []}),
        ("properties.a.minimum", "properties.a.maximum", "properties.b.enum"),
        ({"a": 2, "b": "x"},),
    ),
    "numbers out of reach": Written(
        an_object(a={"type": "number", "minimum": 1e300}, b={**INTEGER, "multipleOf": 99_999_989}),
        ("properties.b.multipleOf", "properties.a.minimum"),
        ({"a": 1, "b": 1},),
    ),
    "regular expressions of other dialects": Written(
        an_object(
            a={**STRING, "pattern": r"^(a)\1$"},
            b={**STRING, "pattern": r"\bx\b"},
            c={**STRING, "pattern": "["},
            d={**INTEGER, "pattern": "["},
        ),
        ("properties.a.pattern", "properties.b.pattern", "properties.c.pattern"),
        ({"a": "aa", "b": "x", "c": "y", "d": 1},),
    ),
    "a number of properties": Written(
        {**an_object([], a=INTEGER, b=INTEGER), "minProperties": 1},
        ("minProperties",),
        ({"a": 1}, {}),
    ),
}
