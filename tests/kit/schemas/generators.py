"""Schemas in the manner of libraries that make them of types."""

from collections.abc import Mapping
from typing import Any

from tests.kit.schemas import INTEGER, STRING, Written, an_object

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
EMAIL = (
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]"
    r"@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
)
DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
CUID = r"^[^\s-]{8,}$"


def one_of(mapping: bool = True, *, required: bool = True) -> dict[str, Any]:
    """A discriminated union."""
    names = ["kind"] if required else []
    said: dict[str, Any] = {"propertyName": "kind"}
    if mapping:
        said["mapping"] = {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}
    default = {} if required else {"default": "cat"}
    return {
        "$defs": {
            "Cat": an_object(names, kind={"const": "cat", **STRING, **default}, lives=INTEGER),
            "Dog": an_object(names, kind={"const": "dog", **STRING}, name=STRING),
        },
        "type": "object",
        "properties": {
            "pet": {
                "discriminator": said,
                "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
            }
        },
        "required": ["pet"],
    }


ZOD: Mapping[str, Written] = {
    "zod 4, an email": Written(
        {"$schema": DRAFT_2020, **an_object(email={**STRING, "format": "email", "pattern": EMAIL})},
        ("properties.email.pattern",),
        ({"email": "a@b.de"},),
    ),
    "zod 4, a record": Written(
        an_object(
            r={"type": "object", "propertyNames": STRING, "additionalProperties": INTEGER},
        ),
        fits=({"r": {"a": 1, "b": 2}},),
    ),
    "zod 4, a record of an enum": Written(
        an_object(
            r={
                "type": "object",
                "propertyNames": {**STRING, "enum": ["a", "b"]},
                "additionalProperties": INTEGER,
                "required": ["a", "b"],
            },
        ),
        fits=({"r": {"a": 1, "b": 2}},),
    ),
    "zod 4, never": Written(
        {"type": "object", "properties": {"a": {"not": {}}}, "additionalProperties": {"not": {}}},
        fits=({},),
    ),
    "zod 4, whole numbers": Written(
        an_object(n={**INTEGER, "exclusiveMinimum": 0, "maximum": 9007199254740991}),
        fits=({"n": 1},),
    ),
    "zod 4, other formats": Written(
        an_object(id={**STRING, "format": "cuid", "pattern": CUID}, j={**STRING, "format": "jwt"}),
        ("properties.id.format", "properties.j.format"),
        ({"id": "abcdefgh", "j": "x"},),
    ),
    "zod 3, a tuple": Written(
        {
            "$schema": DRAFT_7,
            **an_object(
                t={"type": "array", "minItems": 2, "maxItems": 2, "items": [STRING, INTEGER]}
            ),
            "additionalProperties": False,
        },
        fits=({"t": ["a", 1]},),
    ),
    "zod 3, a set and a map": Written(
        {
            "$schema": DRAFT_7,
            **an_object(
                s={"type": "array", "uniqueItems": True, "items": STRING},
                m={
                    "type": "array",
                    "maxItems": 125,
                    "items": {
                        "type": "array",
                        "items": [STRING, INTEGER],
                        "minItems": 2,
                        "maxItems": 2,
                    },
                },
            ),
        },
        ("properties.s.uniqueItems",),
        ({"s": ["a", "b"], "m": [["a", 1]]},),
    ),
    "zod 3, itself": Written(
        {
            "$schema": DRAFT_7,
            "$ref": "#/definitions/Node",
            "definitions": {
                "Node": an_object(
                    ["name"],
                    name=STRING,
                    next={"$ref": "#/definitions/Node"},
                    all={"type": "array", "items": {"$ref": "#/definitions/Node"}},
                )
            },
        },
        fits=({"name": "a", "next": {"name": "b"}, "all": []},),
    ),
    "zod 3, a path within": Written(
        an_object(a=an_object(x=INTEGER), b={"$ref": "#/properties/a"}),
        fits=({"a": {"x": 1}, "b": {"x": 2}},),
    ),
    "zod 3, an intersection": Written(
        {"allOf": [an_object(a=STRING), an_object(b=INTEGER)], "unevaluatedProperties": False},
        ("unevaluatedProperties",),
        ({"a": "x", "b": 1},),
    ),
    "typebox": Written(
        {
            "$id": "T",
            **an_object(["id"], id=STRING, next={"$ref": "T"}),
            "additionalProperties": False,
        },
        fits=({"id": "a", "next": {"id": "b"}},),
    ),
    "valibot, a variant": Written(
        {"oneOf": [an_object(t={"const": "a"}), an_object(t={"const": "b"})]}, fits=({"t": "a"},)
    ),
}

PYDANTIC: Mapping[str, Written] = {
    "pydantic 2, a decimal": Written(
        an_object(d={"anyOf": [{"type": "number"}, {**STRING, "pattern": DECIMAL}]}),
        ("properties.d.anyOf[1].pattern",),
        ({"d": 1.5}, {"d": "1.5"}),
    ),
    "pydantic 2, times": Written(
        an_object(
            d={**STRING, "format": "date"},
            t={**STRING, "format": "time"},
            x={**STRING, "format": "duration"},
        ),
        fits=({"d": "2024-02-29", "t": "12:00:00Z", "x": "P1D"},),
    ),
    "pydantic 2, names and addresses": Written(
        an_object(
            u={**STRING, "format": "uuid4"},
            i={**STRING, "format": "ipvanyaddress"},
            n={**STRING, "format": "ipv4network"},
            w={**STRING, "format": "uri", "minLength": 1, "maxLength": 2083},
        ),
        ("properties.u.format", "properties.i.format", "properties.n.format"),
        ({"u": "x", "i": "::1", "n": "10.0.0.0/8", "w": "https://a.de/"},),
    ),
    "pydantic 2, what says nothing": Written(
        an_object(
            p={**STRING, "format": "path"},
            f={**STRING, "format": "file-path"},
            b={**STRING, "format": "binary"},
            s={**STRING, "format": "password", "writeOnly": True},
        ),
        fits=({"p": "/", "f": "a", "b": "", "s": "x"},),
    ),
    "pydantic 2, sets and tuples": Written(
        an_object(
            s={"type": "array", "uniqueItems": True, "items": INTEGER},
            t={"type": "array", "maxItems": 2, "minItems": 2, "prefixItems": [INTEGER, STRING]},
        ),
        ("properties.s.uniqueItems",),
        ({"s": [1, 2], "t": [1, "a"]},),
    ),
    "pydantic 2, enumerated keys": Written(
        {
            "$defs": {"Color": {"enum": ["red", "blue"], "title": "Color", **STRING}},
            **an_object(
                e={
                    "type": "object",
                    "propertyNames": {"$ref": "#/$defs/Color"},
                    "additionalProperties": INTEGER,
                }
            ),
        },
        fits=({"e": {"red": 1}}, {"e": {}}),
    ),
    "pydantic 2, keys with a pattern": Written(
        {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z]+$"},
            "additionalProperties": an_object(x=INTEGER),
        },
        fits=({"ab": {"x": 1}},),
    ),
    "pydantic 2, a tagged union": Written(one_of(), fits=({"pet": {"kind": "cat", "lives": 9}},)),
    "pydantic 2, a tag with a default": Written(
        one_of(required=False), fits=({"pet": {"kind": "dog", "name": "x"}},)
    ),
    "pydantic 2, itself with a title": Written(
        {
            "$defs": {
                "Node": an_object(
                    ["v"],
                    v=INTEGER,
                    next={"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "default": None},
                    first={"$ref": "#/$defs/Node", "description": "the first"},
                )
            },
            "$ref": "#/$defs/Node",
        },
        fits=({"v": 1, "next": {"v": 2, "next": None}, "first": {"v": 3}},),
    ),
    "pydantic 1, a field with a title": Written(
        {
            "title": "M",
            **an_object(c={"title": "C", "allOf": [{"$ref": "#/definitions/Color"}]}),
            "definitions": {"Color": {"title": "Color", "enum": ["red"], **STRING}},
        },
        fits=({"c": "red"},),
    ),
    "pydantic 1, numbers": Written(
        an_object(a={"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5}),
        fits=({"a": 0.5},),
    ),
    "no fields": Written({"type": "object", "properties": {}, "title": "M"}, fits=({}, {"a": 1})),
}

OTHERS: Mapping[str, Written] = {
    "Go, invopop": Written(
        {
            "$schema": DRAFT_2020,
            "$id": "https://example.org/server/args",
            "$ref": "#/$defs/Args",
            "$defs": {
                "Args": {
                    **an_object(
                        ["path"], path=STRING, at={**STRING, "format": "date-time"}, tags=True
                    ),
                    "additionalProperties": False,
                }
            },
        },
        fits=({"path": "a", "at": "2024-01-01T00:00:00Z", "tags": [1]},),
    ),
    "Go, choices": Written(
        an_object(
            a={"oneOf": [{"required": ["x"], "title": "x"}, {"required": ["y"], "title": "y"}]},
        ),
        ("properties.a.oneOf",),
        ({"a": {"x": 1}},),
    ),
    "Rust, schemars 0.8": Written(
        {
            "$schema": DRAFT_7,
            **an_object(
                ["count", "mode"],
                count={**INTEGER, "format": "uint32", "minimum": 0.0},
                mode={"allOf": [{"$ref": "#/definitions/Mode"}], "description": "how"},
                limit={"type": ["integer", "null"], "format": "int64"},
            ),
            "definitions": {
                "Mode": {
                    "oneOf": [
                        {**STRING, "enum": ["fast"]},
                        {
                            "type": "object",
                            "required": ["Slow"],
                            "properties": {"Slow": INTEGER},
                            "additionalProperties": False,
                        },
                    ]
                }
            },
        },
        fits=({"count": 1, "mode": "fast", "limit": None}, {"count": 1, "mode": {"Slow": 2}}),
    ),
    "Rust, schemars 1": Written(
        {
            "$schema": DRAFT_2020,
            "$defs": {"E": {"oneOf": [{"const": "a", "description": "1"}, {"const": "b"}]}},
            **an_object(
                e={"$ref": "#/$defs/E"},
                s={"type": "array", "uniqueItems": True, "items": {"$ref": "#/$defs/E"}},
            ),
        },
        ("properties.s.uniqueItems",),
        ({"e": "a", "s": ["b"]},),
    ),
    "TypeSpec": Written(
        an_object(
            a={**an_object(x=INTEGER), "unevaluatedProperties": {"not": {}}},
            n={**INTEGER, "minimum": -2147483648, "maximum": 2147483647},
        ),
        fits=({"a": {"x": 1}, "n": 1},),
    ),
    "OpenAPI 3.0": Written(
        {
            **an_object(
                ["id", "pet"],
                id={
                    **INTEGER,
                    "format": "int64",
                    "readOnly": True,
                    "example": 10,
                    "xml": {"name": "i"},
                },
                name={**STRING, "nullable": True, "externalDocs": {"url": "https://a.de"}},
                pet={"$ref": "#/components/schemas/Pet"},
            ),
            "components": {
                "schemas": {
                    "Pet": {
                        **an_object(["kind"], kind=STRING, data={**STRING, "format": "byte"}),
                        "discriminator": {"propertyName": "kind", "mapping": {"x": "X"}},
                    }
                }
            },
        },
        ("components.schemas.Pet.properties.data.format",),
        ({"id": 1, "pet": {"kind": "a", "data": "aGk="}},),
    ),
    "OpenAPI 3.0, exclusive bounds": Written(
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            **an_object(n={"type": "number", "minimum": 0, "exclusiveMinimum": True}),
        },
        fits=({"n": 0.5},),
    ),
    "nulls for what is left out": Written(
        {
            "type": "object",
            "properties": {"a": {**STRING, "enum": None, "pattern": None, "items": None}},
            "required": None,
            "additionalProperties": None,
            "anyOf": None,
            "$defs": None,
        },
        fits=({"a": "x"},),
    ),
}

GENERATED = {**ZOD, **PYDANTIC, **OTHERS}
