"""A schema in the spelling that the compiler reads, without the keywords that it cannot enforce.

Only schemas that a value has to fit are rewritten, so leaving out a keyword allows more values and
forbids none. What stands under `not`, `if` and the like is left out with them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from runtime.structured.schemas.alternatives import are_exclusive, are_told_apart
from runtime.structured.schemas.divisors import MAX_DIVISOR, listed_steps, num_states_of
from runtime.structured.schemas.keywords import (
    BOUNDS,
    RESTRICTING,
    allows_nothing,
    check_values,
    may_be,
    restricts_nothing,
)
from runtime.structured.schemas.numbers import BOUNDS as BOUNDS_OF_NUMBERS
from runtime.structured.schemas.numbers import MAX_EXACT, is_rounded, unheeded_bounds
from runtime.structured.schemas.references import Document, Pointer, path_of
from runtime.structured.schemas.unsupported import (
    COMPANIONS,
    FORMATS,
    UNSUPPORTED,
    is_harmless_format,
)

_NAMED = ("properties", "patternProperties")
_LISTED = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
_SINGLE = ("items", "additionalProperties", "additionalItems")
_IN_PLACE = ("$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas")
"""Keywords with other schemas that the same value has to fit."""

_READ = RESTRICTING | {"discriminator"}

Part = dict[str, Any]


class ReadSchema(Struct, frozen=True):
    """A schema that is ready to be compiled. `left_out` has the path of each keyword that is not
    enforced, and the reason. `origins` are the places of the definitions in the original schema, by
    their names in this one."""

    schema: Any
    left_out: Mapping[str, str]
    origins: Mapping[str, Pointer]


def read_schema(
    schema: Part, pattern_error: Callable[[str], str], *, is_strict: bool = False
) -> ReadSchema:
    """Rewrites a schema. `pattern_error` says why a regular expression cannot be enforced; "" if it
    can. With `is_strict`, alternatives of `oneOf` that may overlap are left to the compiler.

    Raises MalformedSchema.
    """
    return _Reader(schema, pattern_error, is_strict).read()


class _Ready(Struct, frozen=True):
    """A value that has been rewritten already."""

    value: Any


class _Reader:
    def __init__(self, root: Part, pattern_error: Callable[[str], str], is_strict: bool) -> None:
        self._root = root
        self._document = Document(root)
        self._pattern_error = pattern_error
        self._is_strict = is_strict
        self._left_out: dict[str, str] = {}
        self._names: dict[tuple[Pointer, str], str] = {}
        self._origins: dict[str, Pointer] = {}
        self._waiting: list[tuple[Pointer, str]] = []
        self._rules = (
            *(self._refer, self._check_empty, self._check_numbers, self._check_strings),
            *(self._read_names, self._read_unevaluated, self._read_patterns, self._read_required),
            *(self._read_draft_4, self._read_steps, self._check_exact, self._read_alternatives),
            self._leave_out_unsupported,
        )

    def read(self) -> ReadSchema:
        schema = self._rewritten(self._root, ())
        definitions: Part = {}
        while self._waiting:
            pointer, tag = self._waiting.pop()
            definitions[self._names[pointer, tag]] = self._definition(pointer, tag)
        if isinstance(schema, bool):
            schema = {} if schema else {"enum": []}
        if "x-guidance" in self._root:
            schema["x-guidance"] = self._root["x-guidance"]
        if definitions:
            schema["$defs"] = definitions
        return ReadSchema(schema, self._left_out, self._origins)

    def _definition(self, pointer: Pointer, tag: str) -> Any:
        part = self._rewritten(self._document.at(pointer), pointer)
        return _requiring(part, tag) if tag else part

    def _rewritten(self, part: Any, pointer: Pointer) -> Any:
        if not isinstance(part, dict) or allows_nothing(part):
            return False if isinstance(part, dict) else part
        own = {key: part[key] for key in part if key in _READ}
        own = {key: value for key, value in own.items() if value is not None or key == "const"}
        check_values(own, pointer)
        for rule in self._rules:
            rule(own, pointer)
        return {key: self._value(key, value, (*pointer, key)) for key, value in own.items()}

    def _value(self, key: str, value: Any, pointer: Pointer) -> Any:
        if isinstance(value, _Ready):
            return value.value
        if key in _NAMED:
            return {name: self._rewritten(value[name], (*pointer, name)) for name in value}
        if key in _LISTED and isinstance(value, list):
            return [self._rewritten(value[n], (*pointer, str(n))) for n in range(len(value))]
        return self._rewritten(value, pointer) if key in _SINGLE else value

    def _leave_out(self, own: Part, key: str, pointer: Pointer, reason: str) -> None:
        del own[key]
        self._left_out[path_of((*pointer, key))] = reason

    # References

    def _refer(self, own: Part, pointer: Pointer) -> None:
        for key in ("$dynamicRef", "$recursiveRef"):
            if key not in own:
                continue
            if "$ref" in own or not self._document.has_one_address:
                self._leave_out_reference(own, key, pointer, "it may lead to several places")
            else:
                own["$ref"] = own.pop(key)
        if "$ref" not in own:
            return
        target, problem = self._target(own["$ref"], pointer)
        if problem:
            self._leave_out_reference(own, "$ref", pointer, problem)
        else:
            own["$ref"] = self._reference(target)

    def _leave_out_reference(self, own: Part, key: str, pointer: Pointer, reason: str) -> None:
        """What it leads to may have spoken of properties and items."""
        self._leave_out(own, key, pointer, reason)
        for rest in ("unevaluatedProperties", "unevaluatedItems"):
            if rest in own:
                self._leave_out(own, rest, pointer, f"`{key}` is not enforced")

    def _target(self, reference: Any, pointer: Pointer) -> tuple[Pointer, str]:
        """The place that a reference leads to in the end, or the problem with it."""
        seen = {pointer}
        while True:
            target = self._document.resolve(str(reference), pointer)
            if target is None:
                if self._document.leads_outside(str(reference), pointer):
                    return (), "references to other documents are not followed"
                return (), f"the schema has no `{str(reference)[:200]}`"
            if target in seen:
                return (), "it leads back to itself"
            seen.add(target)
            part = self._document.at(target)
            if not isinstance(part, dict) or part.keys() & RESTRICTING != {"$ref"}:
                return target, ""
            reference, pointer = part["$ref"], target

    def _reference(self, target: Pointer, tag: str = "") -> str:
        """A reference to a definition in the rewritten schema. With a `tag` the definition requires
        this property."""
        if not target and not tag:
            return "#"
        name = self._names.get((target, tag))
        if name is None:
            name = re.sub(r"\W", "_", target[-1] if target else "root")
            if name in self._origins:
                name = f"{name}_{len(self._origins)}"
            self._names[target, tag] = name
            self._origins[name] = target
            self._waiting.append((target, tag))
        return f"#/$defs/{name}"

    def _resolved(self, part: Any, pointer: Pointer) -> tuple[Any, Pointer]:
        """A schema, or what it leads to if it is nothing but a reference."""
        if isinstance(part, dict) and part.keys() & RESTRICTING == {"$ref"}:
            target, problem = self._target(part["$ref"], pointer)
            return (part, pointer) if problem else (self._document.at(target), target)
        return part, pointer

    # Values that no answer could have

    def _check_empty(self, own: Part, pointer: Pointer) -> None:
        for key in ("type", "enum", "anyOf", "oneOf"):
            if own.get(key) == []:
                self._leave_out(own, key, pointer, "it is empty, so no value fits it")

    def _check_numbers(self, own: Part, pointer: Pointer) -> None:
        if num_states_of(own.get("multipleOf")) > MAX_DIVISOR:
            reason = f"the number is too large, {MAX_DIVISOR:,} is the most"
            self._leave_out(own, "multipleOf", pointer, reason)
        for least, most in BOUNDS:
            for key in (least, most):
                if key != "minimum" and key != "maximum" and key in own:
                    own[key] = int(own[key])
            if least in own and most in own and own[least] > own[most]:
                self._leave_out(own, least, pointer, f"it is greater than `{most}`")
                self._leave_out(own, most, pointer, f"it is less than `{least}`")

    def _read_steps(self, own: Part, pointer: Pointer) -> None:
        """A few multiples of a fraction as `enum`."""
        types = own.get("type")
        names = [types] if isinstance(types, str) else types or ["any"]
        if not set(names) <= {"number", "integer", "null"} or own.keys() & {"enum", "const"}:
            return
        if steps := listed_steps(own, whole="number" not in names):
            for key in ("multipleOf", *BOUNDS_OF_NUMBERS):
                own.pop(key, None)
            own["enum"] = [*steps, *([None] if "null" in names else ())]

    def _check_exact(self, own: Part, pointer: Pointer) -> None:
        for key in (*BOUNDS_OF_NUMBERS, "enum", "const"):
            if key in own and is_rounded(own[key]):
                reason = f"integers beyond {MAX_EXACT:,} are not told from their neighbours"
                self._leave_out(own, key, pointer, reason)
        if may_be(own, "number"):
            for key in list(unheeded_bounds(own)):
                reason = "it is not told from numbers less than one away from it"
                self._leave_out(own, key, pointer, reason)

    def _read_required(self, own: Part, pointer: Pointer) -> None:
        required = own.get("required")
        if required is False:
            del own["required"]
        elif required is True:
            self._leave_out(own, "required", pointer, "it has to be a list of names")
        elif required and allows_nothing(_plain(own.get("additionalProperties"))):
            self._check_required(own, pointer)

    def _check_required(self, own: Part, pointer: Pointer) -> None:
        known = _plain(own.get("properties", {}))
        if "patternProperties" in own or all(name in known for name in own["required"]):
            return
        listed = [name for name in own["required"] if name in known]
        self._leave_out(own, "required", pointer, "it has a name that is not among `properties`")
        own["required"] = listed

    # Texts

    def _check_strings(self, own: Part, pointer: Pointer) -> None:
        if not may_be(own, "string"):
            own.pop("pattern", None)
            own.pop("format", None)
        if "pattern" in own and (problem := self._pattern_error(own["pattern"])):
            self._leave_out(own, "pattern", pointer, problem)
        name = own.get("format")
        if name is not None and is_harmless_format(name):
            del own["format"]
        elif name is not None and name not in FORMATS:
            self._leave_out(own, "format", pointer, f"the format `{name[:100]}` is not known")

    def _read_patterns(self, own: Part, pointer: Pointer) -> None:
        """A property whose pattern is not read could be one of `additionalProperties`, so these
        have to be free as well."""
        patterns = own.get("patternProperties")
        if not isinstance(patterns, dict):
            return
        problems = {name: problem for name in patterns if (problem := self._pattern_error(name))}
        if not problems:
            return
        place = (*pointer, "patternProperties")
        own["patternProperties"] = _Ready(
            {
                name: self._rewritten(part, (*place, name))
                for name, part in patterns.items()
                if name not in problems
            }
        )
        for name, problem in problems.items():
            self._left_out[path_of((*place, name))] = problem
        if not restricts_nothing(_plain(own.get("additionalProperties", True))):
            reason = "a pattern of `patternProperties` is not enforced"
            self._leave_out(own, "additionalProperties", pointer, reason)

    # The same in other words

    def _read_names(self, own: Part, pointer: Pointer) -> None:
        """Names that are listed, or have a pattern, as `properties` or `patternProperties`."""
        if own.keys() & set(_NAMED) or not isinstance(own.get("propertyNames"), dict):
            return
        names, _ = self._resolved(own["propertyNames"], (*pointer, "propertyNames"))
        if not isinstance(names, dict) or not may_be(names, "string"):
            return
        said = names.keys() & RESTRICTING - {"type"}
        values = [names["const"]] if said == {"const"} else names.get("enum")
        if said <= {"enum", "const"} and len(said) == 1 and isinstance(values, list):
            texts = [value for value in values if isinstance(value, str)]
            own["properties"] = _Ready(dict.fromkeys(texts, self._rest(own, pointer)))
        elif said == {"pattern"} and not self._pattern_error(str(names["pattern"])):
            own["patternProperties"] = _Ready({names["pattern"]: self._rest(own, pointer)})
        else:
            return
        del own["propertyNames"]
        own["additionalProperties"] = False

    def _rest(self, own: Part, pointer: Pointer) -> Any:
        """The schema of the properties without a name of their own, as a reference."""
        rest = own.get("additionalProperties", True)
        if isinstance(rest, bool):
            return rest
        return {"$ref": self._reference((*pointer, "additionalProperties"))}

    def _read_unevaluated(self, own: Part, pointer: Pointer) -> None:
        """Where one schema alone speaks of a value, nothing is evaluated elsewhere."""
        if own.keys() & set(_IN_PLACE):
            return
        key = "unevaluatedProperties"
        if key in own:
            value = _Ready(self._rewritten(own.pop(key), (*pointer, key)))
            own.setdefault("additionalProperties", value)
        key = "unevaluatedItems"
        if key in own and "contains" not in own:
            value = _Ready(self._rewritten(own.pop(key), (*pointer, key)))
            own.setdefault(
                "additionalItems" if isinstance(own.get("items"), list) else "items", value
            )

    def _read_draft_4(self, own: Part, pointer: Pointer) -> None:
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if isinstance(own.get(exclusive), bool) and own.pop(exclusive) and bound in own:
                own[exclusive] = own.pop(bound)
        if not isinstance(own.get("items"), list):
            own.pop("additionalItems", None)

    def _read_alternatives(self, own: Part, pointer: Pointer) -> None:
        """`oneOf` is `anyOf` if no value can fit two alternatives; else it allows less."""
        said = own.pop("discriminator", None)
        if "oneOf" not in own:
            return
        place = (*pointer, "oneOf")
        ends = [self._resolved(part, (*place, str(n))) for n, part in enumerate(own["oneOf"])]
        schemas = [part for part, _ in ends]
        tag = said.get("propertyName") if isinstance(said, dict) else None

        def property_of(number: int, name: str) -> Any:
            return self._property(*ends[number], name)

        if isinstance(tag, str) and are_told_apart(schemas, tag, property_of):
            parts = [self._tagged(*each, tag) for each in ends]
        else:
            exclusive = are_exclusive(schemas, property_of)
            if self._is_strict and not exclusive:
                return
            parts = self._value("oneOf", own["oneOf"], place)
            if not exclusive:
                self._left_out[path_of(place)] = "its alternatives may overlap: read as `anyOf`"
        del own["oneOf"]
        self._add_alternatives(own, pointer, parts)

    def _property(self, part: Part, pointer: Pointer, name: str) -> Any:
        properties = part.get("properties")
        found = properties.get(name) if isinstance(properties, dict) else None
        return self._resolved(found, (*pointer, "properties", name))[0]

    def _tagged(self, part: Any, pointer: Pointer, tag: str) -> Any:
        """An alternative that has to say which it is."""
        if tag in part.get("required", ()):
            return {"$ref": self._reference(pointer)}
        return {"$ref": self._reference(pointer, tag)}

    def _add_alternatives(self, own: Part, pointer: Pointer, parts: list[Any]) -> None:
        if "anyOf" not in own:
            own["anyOf"] = _Ready(parts)
            return
        others = self._value("allOf", own.get("allOf", []), (*pointer, "allOf"))
        own["allOf"] = _Ready([*others, {"anyOf": parts}])

    def _leave_out_unsupported(self, own: Part, pointer: Pointer) -> None:
        for key in own.keys() & UNSUPPORTED.keys():
            if UNSUPPORTED[key](own[key], own):
                del own[key]
        for key in [key for key in own if key in UNSUPPORTED]:
            self._leave_out(own, key, pointer, "this keyword is not enforced")
        for key in COMPANIONS:
            own.pop(key, None)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _Ready) else value


def _requiring(part: Any, name: str) -> Any:
    required = part.get("required", [])
    return {**part, "required": [*required, name]}
