"""Random JSON schemas of what structured outputs support, and values that fit or nearly do."""

import json
from random import Random
from typing import Any

LEAVES = 9


def random_schema(random: Random, depth: int = 2) -> dict[str, Any]:
    """A schema that something fits. Objects take their own properties alone, so that a value's text
    has one order of keys."""
    kind = random.randrange(LEAVES + 3 if depth else LEAVES)
    low, high = sorted((random.randrange(-20, 120), random.randrange(-20, 120)))
    short, long = sorted((random.randrange(4), random.randrange(1, 5)))
    match kind:
        case 0:
            return {"type": "boolean"}
        case 1:
            return {"type": "null"}
        case 2:
            return {"type": "integer", "minimum": low, "maximum": high}
        case 3:
            return {"type": "number", "minimum": low, "exclusiveMaximum": high + 1}
        case 4:
            return {"type": "string", "minLength": short, "maxLength": long}
        case 5:
            return {"enum": [low, 'a"b\\c\n', True, None, "日本"][: 1 + short]}
        case 6:
            return {"const": random.choice(["x", 7, None, False, [1, "é"]])}
        case 7:
            return {"type": "string", "pattern": "^[a-f]{1,3}(-[0-9])?$"}
        case 8:
            return {"type": ["string", "null"], "maxLength": long}
        case 9:
            items = random_schema(random, depth - 1)
            return {"type": "array", "items": items, "minItems": short, "maxItems": long}
        case 10:
            return {"anyOf": [random_schema(random, depth - 1) for _ in range(long)]}
    names = [f"p{number}" for number in range(1 + short)]
    return {
        "type": "object",
        "properties": {name: random_schema(random, depth - 1) for name in names},
        "required": [name for name in names if random.random() < 0.7],
        "additionalProperties": False,
    }


def random_value(schema: dict[str, Any], random: Random) -> Any:
    """Mostly a value that fits."""
    if random.random() < 0.05:
        return random.choice([None, True, -1, 3, 500, "", "abc", "zzzzzzz", [], {}, [1], {"q": 1}])
    if "anyOf" in schema:
        return random_value(random.choice(schema["anyOf"]), random)
    if "enum" in schema:
        return random.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    return _typed_value(schema, random)


def _typed_value(schema: dict[str, Any], random: Random) -> Any:
    match schema["type"]:
        case "boolean":
            return random.random() < 0.5
        case "null":
            return None
        case "integer":
            return random.randint(schema["minimum"], schema["maximum"])
        case "number":
            return random.randint(schema["minimum"], schema["exclusiveMaximum"] - 1) + 0.25
        case "array":
            length = random.randint(schema["minItems"], schema["maxItems"])
            return [random_value(schema["items"], random) for _ in range(length)]
        case "object":
            return {
                name: random_value(part, random)
                for name, part in schema["properties"].items()
                if name in schema["required"] or random.random() < 0.5
            }
    if "pattern" in schema:
        return random.choice(["a", "fed", "abc-7"])
    length = random.randint(schema.get("minLength", 0), schema["maxLength"])
    return "".join(random.choice('az"\\/\n é日👍') for _ in range(length))


def text_of(value: Any, random: Random) -> str:
    """JSON in one of the ways in which models write it."""
    indent, separators = random.choice([(None, None), (None, (",", ":")), (2, None)])
    return json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
