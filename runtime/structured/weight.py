"""How much work a constraint is, told from its text alone.

A light constraint compiles within milliseconds, whatever it says: it is short, uses only keywords
whose cost grows with their text, and its numbers make no large automaton. `tests` hold it to that.
"""

import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.schema_path import children, join_path

MAX_LIGHT_CHARS = 16_384
MAX_LIGHT_PARTS = 400
MAX_LIGHT_DEPTH = 24
MAX_LIGHT_PATTERN = 200
MAX_LIGHT_REPEATS = 1_000
MAX_LIGHT_DIVISOR = 1_000
"""Most characters, subschemas and nesting of a light constraint, most characters of a regular
expression in it and most counted repetitions within repetitions, and the largest `multipleOf`."""

MAX_DIVISOR = 200_000
"""The largest whole `multipleOf` that is tried, without its factors of 2 and 5: the automaton that
finds the numbers it divides has as many states."""

_ANNOTATIONS = frozenset(
    (
        "$comment", "$defs", "$schema", "default", "definitions", "deprecated", "description",
        "discriminator", "examples", "readOnly", "title", "writeOnly",
    )
)  # fmt: skip
_CHEAP = frozenset(
    (
        "additionalProperties", "const", "enum", "exclusiveMaximum", "exclusiveMinimum", "format",
        "items", "maxItems", "maxLength", "maximum", "minItems", "minLength", "minimum",
        "multipleOf", "pattern", "prefixItems", "properties", "required", "type",
    )
)  # fmt: skip
_ALONE = frozenset(("$ref", "allOf", "anyOf", "oneOf"))
"""Keywords that are cheap where nothing but annotations stands beside them: no product of schemas
has to be made."""

_COUNT = re.compile(r"\{(\d{1,9})?(?:,(\d{1,9})?)?\}")


def is_light(wanted: StructuredOutput) -> bool:
    """Whether it may be compiled without a trial."""
    if wanted.json is not None:
        return _is_light_schema(wanted.json)
    if wanted.regex is not None:
        return _is_light_regex(wanted.regex)
    if wanted.choice:
        return sum(map(len, wanted.choice)) <= MAX_LIGHT_CHARS
    schemas = [text for _, text in _schemas(wanted)]
    is_short = sum(map(len, schemas)) <= MAX_LIGHT_CHARS
    return wanted.grammar is None and is_short and all(map(_is_light_schema, schemas))


def check_divisors(wanted: StructuredOutput) -> None:
    """Raises InvalidRequest for a `multipleOf` that is too large, without trying to compile it."""
    for param, text in _schemas(wanted):
        for path, part in _parts(text):
            if _num_states(part.get("multipleOf")) > MAX_DIVISOR:
                place = join_path(path, "multipleOf")
                raise InvalidRequest(
                    f"`{param}` cannot be enforced: in its schema, at `{place}`: the number is too"
                    f" large, {MAX_DIVISOR:,} is the most. Leave it out, or take a smaller one.",
                    param=param,
                )


def too_large(wanted: StructuredOutput, reason: str) -> InvalidRequest:
    """The error for a constraint whose trial did not come to its end."""
    weighed = [
        (weight, param, join_path(path, key))
        for param, text in _schemas(wanted)
        for path, part in _parts(text)
        for key, weight in _weights(part).items()
    ]
    _, param, place = max(weighed, default=(0.0, wanted.source, ""))
    what = f"`{place}`, which weighs most in its schema," if place else "it"
    return InvalidRequest(
        f"`{param}` cannot be enforced: {reason}. Make {what} smaller, or leave it out.",
        param=param,
    )


def _schemas(wanted: StructuredOutput) -> Iterator[tuple[str, str]]:
    """All JSON schemas of a constraint, each with the parameter that gave it."""
    if wanted.json is not None:
        yield wanted.source, wanted.json
    if wanted.structural_tag is not None:
        for structure in wanted.structural_tag.structures:
            yield structure.source, structure.schema
        if wanted.structural_tag.content is not None:
            yield wanted.source, wanted.structural_tag.content


def _parts(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All subschemas with their paths; none of a text that is no JSON."""
    try:
        waiting = [("", json.loads(text))]
    except (ValueError, RecursionError):
        return
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, dict):
            yield path, part
            waiting += [(join_path(path, step), child) for step, child in children(part)]


def _is_light_schema(text: str) -> bool:
    if len(text) > MAX_LIGHT_CHARS:
        return False
    try:
        waiting = [(0, json.loads(text))]
    except ValueError:
        return True  # refused as soon as it is read
    except RecursionError:
        return False
    num_parts = 0
    while waiting:
        depth, part = waiting.pop()
        num_parts += 1
        if num_parts > MAX_LIGHT_PARTS or depth > MAX_LIGHT_DEPTH or not _is_light_part(part):
            return False
        waiting += [(depth + 1, child) for _, child in children(part)]
    return True


def _is_light_part(part: Any) -> bool:
    if isinstance(part, bool):
        return True
    if not isinstance(part, dict):
        return False
    keys = part.keys() - _ANNOTATIONS
    if keys & _ALONE:
        listed = part.get("allOf", ())
        return len(keys) == 1 and isinstance(listed, (list, tuple)) and len(listed) <= 1
    if not keys <= _CHEAP or _digits(part.get("multipleOf")) > MAX_LIGHT_DIVISOR:
        return False
    return _is_light_regex(part["pattern"]) if "pattern" in part else True


def _is_light_regex(regex: Any) -> bool:
    if not isinstance(regex, str):
        return False
    return len(regex) <= MAX_LIGHT_PATTERN and _repeats(regex) <= MAX_LIGHT_REPEATS


def _repeats(regex: str) -> float:
    """The product of all counts in a regular expression: how often a part can come at most, if
    every repetition stands within the one before."""
    counts = [float(high or low or 1) for low, high in _COUNT.findall(regex)]
    return math.prod(max(count, 1.0) for count in counts)


def _digits(value: Any) -> int:
    """All digits of a number as one integer; 0 for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    if isinstance(value, int):
        return abs(value)
    if not math.isfinite(value):
        return 0
    return int("".join(map(str, Decimal(str(value)).normalize().as_tuple().digits)))


def _num_states(value: Any) -> int:
    """At least so many states come from a `multipleOf`, as far as its value alone tells."""
    if isinstance(value, float) and not value.is_integer():
        return 0
    num_states = _digits(value)
    if num_states > 10**40:
        return num_states
    for factor in (5, 2):
        while num_states and num_states % factor == 0:
            num_states //= factor
    return num_states


def _weights(part: dict[str, Any]) -> dict[str, float]:
    """What the keywords of one subschema may cost, roughly and relative to each other."""
    weights = {"multipleOf": float(min(_digits(part.get("multipleOf")), 10**300))}
    if isinstance(pattern := part.get("pattern"), str):
        weights["pattern"] = len(pattern) * _repeats(pattern)
    if isinstance(properties := part.get("properties"), dict):
        weights["properties"] = len(properties) ** 2.0
    for key in ("allOf", "anyOf", "oneOf", "enum"):
        if isinstance(listed := part.get(key), list):
            weights[key] = len(listed) * (1.0 if key == "enum" else 20.0)
    return {key: weight for key, weight in weights.items() if weight > 1.0}
