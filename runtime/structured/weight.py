"""How much work a constraint is, told from its text alone.

A light constraint compiles within milliseconds, whatever it says: it is short, uses only keywords
whose cost grows with their text, and its numbers make no large automaton. `tests` hold it to that.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, structs

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import LeftOut, StructuredOutput
from runtime.structured.fitting import FittedConstraint
from runtime.structured.schemas.divisors import MAX_DIVISOR, digits_of, num_states_of
from runtime.structured.schemas.references import Pointer, fitted_children, path_of
from runtime.structured.schemas.search import without

MAX_LIGHT_CHARS = 16_384
MAX_LIGHT_PARTS = 400
MAX_LIGHT_DEPTH = 24
MAX_LIGHT_PATTERN = 200
MAX_LIGHT_REPEATS = 1_000
MAX_LIGHT_DIVISOR = 1_000
"""Most characters, subschemas and nesting of a light constraint, most characters of a regular
expression in it and most counted repetitions within repetitions, and the largest `multipleOf`."""

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
    schemas = [schema.text for schema in _schemas(wanted)]
    is_short = sum(map(len, schemas)) <= MAX_LIGHT_CHARS
    return wanted.grammar is None and is_short and all(map(_is_light_schema, schemas))


def check_divisors(wanted: StructuredOutput) -> None:
    """Raises InvalidRequest for a `multipleOf` that is too large, for a compiler that would not
    bound the work on it."""
    for schema in _schemas(wanted):
        for pointer, part in _parts(schema.text):
            if num_states_of(part.get("multipleOf")) > MAX_DIVISOR:
                place = path_of((*pointer, "multipleOf"))
                raise InvalidRequest(
                    f"`{schema.source}` cannot be enforced: in its schema, at `{place}`: the number"
                    f" is too large, {MAX_DIVISOR:,} is the most. Leave it out, or take a smaller"
                    " one.",
                    param=schema.source,
                )


def lightened(wanted: StructuredOutput, reason: str) -> FittedConstraint | None:
    """The constraint without the keyword that weighs most; None if there is none, or if it has to
    be enforced. `reason` continues a sentence about what was tried."""
    heaviest = _heaviest(wanted)
    if heaviest is None or heaviest.is_strict:
        return None
    number, pointer = heaviest.number, heaviest.pointer
    schema = json.loads(_schemas(wanted)[number].text)
    lighter = json.dumps(without(schema, pointer[:-1], pointer[-1]), ensure_ascii=False)
    note = LeftOut(heaviest.source, path_of(pointer), reason)
    return FittedConstraint(_with_schema(wanted, number, lighter), (note,))


def too_large(wanted: StructuredOutput, reason: str) -> InvalidRequest:
    """The error for a constraint whose trial did not come to its end."""
    heaviest = _heaviest(wanted)
    param, what = wanted.source, "it"
    if heaviest is not None:
        param = heaviest.source
        what = f"`{path_of(heaviest.pointer)}`, which weighs most in its schema,"
    return InvalidRequest(
        f"`{param}` cannot be enforced: {reason}. Make {what} smaller, or leave it out.",
        param=param,
    )


class _Schema(Struct, frozen=True):
    """A JSON schema of a constraint, with the parameter that gave it."""

    source: str
    text: str
    is_strict: bool


class _Keyword(Struct, frozen=True):
    """A keyword of the schema with this number among those of a constraint."""

    number: int
    source: str
    pointer: Pointer
    is_strict: bool


def _heaviest(wanted: StructuredOutput) -> _Keyword | None:
    most, heaviest = 0.0, None
    for number, schema in enumerate(_schemas(wanted)):
        for pointer, part in _parts(schema.text):
            for key, weight in _weights(part).items():
                if weight > most:
                    most = weight
                    place = (*pointer, key)
                    heaviest = _Keyword(number, schema.source, place, schema.is_strict)
    return heaviest


def _schemas(wanted: StructuredOutput) -> list[_Schema]:
    """All JSON schemas of a constraint: the one of the answer comes last."""
    tag = wanted.structural_tag
    found = (
        [] if tag is None else [_Schema(s.source, s.schema, s.is_strict) for s in tag.structures]
    )
    text = wanted.json if tag is None else tag.content
    return found if text is None else [*found, _Schema(wanted.source, text, wanted.is_strict)]


def _with_schema(wanted: StructuredOutput, number: int, text: str) -> StructuredOutput:
    """A constraint with another schema in the place of the one with this number."""
    tag = wanted.structural_tag
    if tag is None:
        return structs.replace(wanted, json=text)
    if number == len(tag.structures):
        return structs.replace(wanted, structural_tag=structs.replace(tag, content=text))
    structures = list(tag.structures)
    structures[number] = structs.replace(structures[number], schema=text)
    tag = structs.replace(tag, structures=tuple(structures))
    return structs.replace(wanted, structural_tag=tag)


def _parts(text: str) -> Iterator[tuple[Pointer, dict[str, Any]]]:
    """All subschemas with the keys that lead to them; none of a text that is no JSON."""
    try:
        waiting: list[tuple[Pointer, Any]] = [((), json.loads(text))]
    except (ValueError, RecursionError):
        return
    while waiting:
        pointer, part = waiting.pop()
        if isinstance(part, dict):
            yield pointer, part
            waiting += [((*pointer, *keys), child) for keys, child in fitted_children(part)]


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
        waiting += [(depth + 1, child) for _, child in fitted_children(part)]
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
    if not keys <= _CHEAP or digits_of(part.get("multipleOf")) > MAX_LIGHT_DIVISOR:
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


def _weights(part: dict[str, Any]) -> dict[str, float]:
    """What the keywords of one subschema may cost, roughly and relative to each other."""
    weights = {"multipleOf": float(min(digits_of(part.get("multipleOf")), 10**300))}
    if isinstance(pattern := part.get("pattern"), str):
        weights["pattern"] = len(pattern) * _repeats(pattern)
    if isinstance(properties := part.get("properties"), dict):
        weights["properties"] = len(properties) ** 2.0
    for key in ("allOf", "anyOf", "oneOf", "enum"):
        if isinstance(listed := part.get(key), list):
            weights[key] = len(listed) * (1.0 if key == "enum" else 20.0)
    return {key: weight for key, weight in weights.items() if weight > 1.0}
