"""Error messages about wrong settings. Each names the setting."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, cast, get_args, get_origin

import msgspec
from msgspec import Struct

from gateway.settings.schema import (
    Settings,
)
from runtime.errors import SetupError


def check_text(origin: str, text: str, encoding: str = "UTF-8") -> None:
    """Raises SetupError for a value whose bytes are no text, as names of files may be. `encoding`
    is what they should have been."""
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise SetupError(f"{origin}: {shown} is not valid {encoding}") from None


def toml_reason(error: tomllib.TOMLDecodeError | UnicodeDecodeError) -> str:
    """Why a file is no TOML, with what to do about the two mistakes that are made on Windows."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not in UTF-8; save it as that (> in Windows PowerShell writes UTF-16)"
    if "Unescaped" in str(error) or "hex value" in str(error):
        return f"{error}; a path with backslashes goes into single quotes"
    return str(error)


def check_zeros(value: object, path: tuple[str, ...] = ()) -> None:
    """Raises SetupError for a text with a zero character in it, which no file's name can have."""
    if isinstance(value, str) and "\0" in value:
        raise SetupError(f"{dotted(path)}: {value!r} has a zero character in it; leave it out")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_zeros(inner, (*path, str(key)))
    if isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            check_zeros(inner, (*path, str(index)))


def fields_of(kind: Any) -> dict[str, Any]:
    """The keys of a section and their types; empty for a plain setting. A section may be a tagged
    union of several forms: then these are the keys of all forms, and the tag."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    forms = _forms(kind)
    fields = {key: form for part in forms for key, form in fields_of(part).items()}
    if forms and (key := forms[0].__struct_config__.tag_field):
        fields[key] = Literal[tuple(part.__struct_config__.tag for part in forms)]
    return fields


def _forms(kind: Any) -> list[type[Struct]]:
    """The Structs of a tagged union; empty for everything else."""
    if get_origin(kind) not in (Union, UnionType):
        return []
    parts = get_args(kind)
    tagged = [p for p in parts if isinstance(p, type) and issubclass(p, Struct)]
    return tagged if len(tagged) == len(parts) else []


def is_container(kind: Any) -> bool:
    return get_origin(_bare(kind)) in (list, tuple, dict, set, frozenset)


def is_table(kind: Any) -> bool:
    """Whether it is a table whose keys are the user's own."""
    return get_origin(_bare(kind)) is dict


def section_in(kind: Any) -> Any:
    """The type of the sections in a table whose keys are their names; None for all others."""
    inner = get_args(_bare(kind))[1] if is_table(kind) else None
    return inner if fields_of(inner) else None


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")
_MISSING = re.compile(r"missing required field `(?P<key>[^`]*)`")
_PLACE = re.compile(r"^(?P<reason>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)


def raise_mistake(
    origin: str,
    document: Any,
    message: str,
    kind: Any = Settings,
    parent: tuple[str, ...] = (),
) -> NoReturn:
    """Raises SetupError with msgspec's `message` about the document, rewritten as one line that
    names the setting. `origin` is where the document came from. It is of the type `kind`, and is at
    the path `parent` of all settings."""
    if unknown := _UNKNOWN.search(message):
        path = _split(unknown["path"])
        raise_unknown(origin, (*parent, *path), unknown["key"], fields_of(_walk(kind, path)))
    place = _PLACE.match(message)
    assert place is not None, "the pattern matches any text"
    path = _split(place["path"])
    value: Any = document
    for key in path:
        value = value[key]
    reason = reason_at((*parent, *path), _walk(kind, path), value, place["reason"])
    raise SetupError(f"{origin}: {reason}")


def raise_unknown(origin: str, parent: tuple[str, ...], key: str, known: Iterable[str]) -> NoReturn:
    """Raises SetupError for a key that the section `parent` does not have, with a suggestion."""
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1)
    if close:
        hint = f"did you mean {close[0]}?"
    elif names:
        hint = f"known here: {', '.join(names)}"
    else:
        hint = f"{dotted(parent)} has no keys"
    raise SetupError(f"{origin}: {dotted((*parent, key))} is not a setting; {hint}")


def _walk(kind: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        kind = fields_of(kind).get(key)
    return kind


def reason_at(path: tuple[str, ...], kind: Any, value: object, message: str) -> str:
    """Which setting is wrong, and why. Of a list or a table that is its first wrong entry.
    `message` is msgspec's reason for the whole `value`, which is not of the type `kind`."""
    place = dotted(path)
    for name, inner_kind, inner in _entries(_bare(kind), value):
        try:
            msgspec.convert(inner, inner_kind)
        except msgspec.ValidationError as error:
            return f"{place}{name}: {_reason(str(error), inner_kind, inner)}"
    return f"{place}: {_reason(message, kind, value)}"


def _entries(kind: Any, value: object) -> Iterator[tuple[str, Any, object]]:
    """The name of each entry with the type that it should have; of a table, its keys too."""
    parts = get_args(kind)
    if is_table(kind) and isinstance(value, dict):
        for key, inner in value.items():
            yield " (a key)", parts[0], key
            yield f".{key}", parts[1], inner
    elif is_container(kind) and isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield f"[{index}]", parts[0], inner


def not_json(kind: Any, text: str) -> str:
    """Why a text is not the list or table that it should be."""
    example = '{"key": "value"}' if is_table(kind) else '["a", "b"]'
    return f"expected {_describe(kind)}, written as JSON, such as {example}; got {text!r}"


def whole_table(path: tuple[str, ...], key: str) -> str:
    """Why no single key of the user's own table can be set by an option."""
    return (
        f"{dotted(path)} is a table whose keys are your own; set it as a whole, as JSON:"
        f' {".".join(path)}={{"{key}": …}}'
    )


def _reason(message: str, kind: Any, value: object) -> str:
    """Why `value` is not a value of the type `kind`. `message` is msgspec's reason."""
    message = message.partition(" - at ")[0]
    if missing := _MISSING.search(message):
        return f"the key {missing['key']} is missing"
    if "enum value" in message or "got `" in message or not message.startswith("Expected"):
        return f"expected {_describe(kind)}, got {_shown(value)}"
    return f"e{_in_words(message[1:].replace('`', ''))}, got {_shown(value)}"


_WORDS = {
    "str of length >= 1": "a string that is not empty",
    "int ": "a whole number ",
    "float ": "a number ",
}


def _in_words(expected: str) -> str:
    for types, words in _WORDS.items():
        expected = expected.replace(types, words)
    return expected


def _shown(value: object) -> str:
    return "a table" if isinstance(value, dict) else repr(value)


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


def _describe(kind: Any) -> str:
    kind = _bare(kind)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_describe(part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(repr(value) for value in get_args(kind))
    if fields_of(kind):
        return f"a table with the keys {', '.join(fields_of(kind))}"
    if is_container(kind):
        return _describe_container(get_origin(kind), get_args(kind))
    return _KINDS.get(cast(type, kind), "a JSON value of the right type")


def _describe_container(origin: Any, parts: tuple[Any, ...]) -> str:
    if origin is dict:
        return f"a table, each value {_describe(parts[1])}"
    return f"a list, each item {_describe(parts[0])}"


def _split(path: str | None) -> tuple[str, ...]:
    """The keys down to a setting. A place inside a list or a table of the user's is left out."""
    return tuple(path.partition("[")[0].split(".")) if path else ()


def dotted(path: tuple[str, ...]) -> str:
    """The path of a setting as messages show it: "$.server.port"."""
    return ".".join(("$", *map(_quoted, path)))


def _quoted(key: str) -> str:
    return f'"{key}"' if "." in key else key
