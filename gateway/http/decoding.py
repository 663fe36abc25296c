"""Decodes bodies into Structs; reports mistakes as errors that name the parameter."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec
from msgspec import Raw, Struct, inspect

from gateway.chat.parsing.spelling import unknown_parameter
from gateway.chat.parsing.surrogates import find_half
from runtime.errors import InvalidRequest

MAX_VALUES = 20
"""Longest list of allowed values that an error shows."""

MAX_KEY = 64
"""Characters of a client's key that an error shows."""

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_type_info = cache(inspect.type_info)
_STEP = re.compile(r"\[[^\]]*\]|[^.\[\]]+")
_PATH = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*?)(?P<entry>\[\.\.\.\])?`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>[^`]*)`")
_NULL = re.compile(r"^Expected `(?P<kind>[^`]*)`, got `null`$")
_TAG = "Expected `str`"
_IN_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
_WRONG_WORD = re.compile(r"^(invalid (enum )?value |expected `str`$)")
_WRONG_TYPE = re.compile(r"^Expected `[^`]*`(, got `[^`]*`)?$")


T = TypeVar("T", bound=Struct)


class Settled(Struct, Generic[T], frozen=True, kw_only=True):
    """A body whose undeclared fields are settled. `ignored` are those that have no effect, with the
    reason. `unknown` are those that this server has never heard of. `names` has the client's names
    of declared fields that it sent under other names."""

    data: T
    ignored: Mapping[str, str] = {}
    unknown: Collection[str] = ()
    names: Mapping[str, str] = {}


MISTAKES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The exceptions that a decoder raises for an invalid body."""


_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_OF_UTF8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii", "utf-8-sig"})


def utf8(body: bytes, charset: str) -> bytes:
    """The body without a byte order mark. `charset` is that of its `Content-Type`, or empty. Raises
    InvalidRequest for a body in another encoding than UTF-8."""
    if body.startswith(_OTHER_BOMS) or b"\0" in body[:4]:
        raise _not_utf8("It begins like UTF-16 or UTF-32.")
    if charset.lower() not in _OF_UTF8 and not body.isascii():
        raise _not_utf8(f"Its `Content-Type` says `charset={charset[:100]}`.")
    return body.removeprefix(_BOM)


def _not_utf8(reason: str) -> InvalidRequest:
    message = f"The body has to be JSON in UTF-8. {reason}"
    return InvalidRequest(message, param=None, code="invalid_json")


def decode_leniently(decode: Callable[[bytes], T], body: bytes) -> T:
    """What `decode` makes of a body. A null field that an object does not know is the same as none,
    also where other unknown fields are mistakes."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        found = _PATH.search(text := str(error))
        if not _UNKNOWN.match(text) or (found and "[" in found["path"]):
            raise
        path = found["path"].split(".")[1:] if found else []
        if (cleaned := _without_nulls(body, path)) is None:
            raise
        return decode_leniently(decode, cleaned)


def _without_nulls(raw: bytes | Raw, path: Sequence[str]) -> bytes | None:
    """The same JSON without the null fields of the object at `path`; None if it has none."""
    fields = _decode_fields(raw)
    if path:
        inner = _without_nulls(fields[path[0]], path[1:])
        if inner is None:
            return None
        return msgspec.json.encode({**fields, path[0]: Raw(inner)})
    kept = {name: value for name, value in fields.items() if bytes(value).strip() != b"null"}
    return msgspec.json.encode(kept) if len(kept) < len(fields) else None


def to_invalid_request(
    error: Exception, kind: Any, where: str = "", body: bytes = b""
) -> InvalidRequest:
    """Converts a decoder's error into OpenAI's form, with a path such as `messages[0].role`.
    `where` is the path of the decoded part, if only a part of the body was decoded. `body` is
    searched for mistakes whose path the decoder does not report."""
    if isinstance(error, RecursionError):
        return InvalidRequest("The body is nested too deeply.", param=None, code="invalid_json")
    if isinstance(error, msgspec.ValidationError):
        return _wrong_shape(str(error), kind, where, body)
    if (place := find_half(body)) is not None:
        return _half_character(place)
    if not _is_utf8(body):
        return _not_utf8("It has bytes that are not.")
    message = f"The body is not valid JSON: {error}."
    return InvalidRequest(message, param=None, code="invalid_json")


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _half_character(place: str) -> InvalidRequest:
    return InvalidRequest(
        f"{f'`{place}`' if place else 'The body'} has an escape from `\\ud800` to `\\udfff` that is"
        " half of a surrogate pair, without the other half. That is no character: leave it out.",
        param=place or None,
        code="invalid_value",
    )


def _wrong_shape(text: str, kind: Any, where: str, body: bytes) -> InvalidRequest:
    found = _PATH.search(text)
    inner = found["path"] if found else ""
    path = (where + inner).removeprefix(".")
    reason = text[: found.start()] if found else text
    if missing := _MISSING.match(reason):
        inner, path = f"{inner}.{missing['field']}", _joined(path, missing["field"])
        return _missing(path, allowed_values(kind, inner))
    if found and found["entry"] and (key := _wrong_entry(kind, inner, body)) is not None:
        return _wrong_value(f"{path}{_in_brackets(key)}", reason)
    is_null = _NULL.match(reason) or (reason == _TAG and _is_null(body, inner))
    if is_null and path and not path.endswith("]"):  # what may be left out may be null
        return _missing(path, allowed_values(kind, inner))
    if unknown := _UNKNOWN.match(reason):
        return unknown_parameter(_joined(path, unknown["field"]), _declared(kind, inner))
    code = "invalid_type" if _WRONG_TYPE.match(reason) else "invalid_value"
    reason = _lowered(reason)
    if not path:
        return InvalidRequest(f"The body is wrong: {reason}.", param=None, code=code)
    what = f"`{path}`"
    if found and found["key"]:
        what = f"{_wrong_key(kind, path, body)} of {what}"
    advice = _advice(reason, kind, inner)
    return InvalidRequest(f"{what} is wrong: {reason}.{advice}", param=path, code=code)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _lowered(reason: str) -> str:
    return reason[:1].lower() + reason[1:]


def _missing(param: str, known: Sequence[str] = ()) -> InvalidRequest:
    message = f"`{param}` is required.{_known(known)}"
    return InvalidRequest(message, param=param, code="missing_required_parameter")


def _wrong_value(param: str, reason: str) -> InvalidRequest:
    """The error of a value in an object of any keys, which may not be null."""
    code = "invalid_type" if _WRONG_TYPE.match(reason) else "invalid_value"
    message = f"`{param}` is wrong: {_lowered(reason)}."
    if null := _NULL.match(reason):
        expected = _IN_WORDS.get(null["kind"], null["kind"])
        message = f"`{param}` is null: it has to be {expected}, or to be left out."
    return InvalidRequest(message, param=param, code=code)


def _in_brackets(key: str) -> str:
    """A key of the client's as a step of a path."""
    return "['{}']".format(key[:MAX_KEY].replace("\\", "\\\\").replace("'", "\\'"))


def _wrong_key(kind: Any, path: str, body: bytes) -> str:
    """The key of an object at the top of a body that is wrong, in words."""
    key = _wrong_entry(kind, path, body)
    return "A key" if key is None else f"The key `{key[:MAX_KEY]}`"


def _wrong_entry(kind: Any, path: str, body: bytes) -> str | None:
    """The first key, with its value, that an object at the top of a body cannot have."""
    name = path.removeprefix(".")
    hint = get_type_hints(kind, include_extras=True).get(name)
    for key, value in _decode_fields(_decode_fields(body)[name]).items() if hint and body else ():
        try:
            msgspec.json.decode(msgspec.json.encode({key: value}), type=hint)
        except msgspec.ValidationError:
            return key
    return None


def _is_null(body: bytes, path: str) -> bool:
    """Whether the value at a path is null."""
    raw = Raw(body)
    for step in _STEP.findall(path) if body else ():
        raw = _decode_list(raw)[int(step[1:-1])] if step[0] == "[" else _decode_fields(raw)[step]
    return bytes(raw).strip() == b"null"


def _advice(reason: str, kind: Any, path: str) -> str:
    """The values that the field takes, if it is an enum."""
    return _known(allowed_values(kind, path)) if _WRONG_WORD.match(reason) else ""


def _known(values: Sequence[str]) -> str:
    return f" Known are {', '.join(f'`{value}`' for value in values)}." if values else ""


def allowed_values(kind: Any, path: str) -> list[str]:
    """The enum values allowed at `path` (msgspec's notation, `messages[0].role`) in a value of
    `kind`, or its examples. Empty if the field is not an enum, or has more than `MAX_VALUES`
    values."""
    places = _places(kind, path)
    words = dict.fromkeys(str(word) for place in _each(places) for word in _words(place))
    return list(words) if len(words) <= MAX_VALUES else []


def _declared(kind: Any, path: str) -> list[str]:
    """The fields that an object at `path` may have."""
    structs = [each for each in _each(_places(kind, path)) if isinstance(each, inspect.StructType)]
    return [field.encode_name for struct in structs for field in struct.fields]


def _places(kind: Any, path: str) -> list[inspect.Type]:
    places = [_type_info(kind)]
    for step in _STEP.findall(path):
        places = [below for place in _each(places) for below in _below(place, step)]
    return places


def _words(place: inspect.Type) -> Sequence[Any]:
    if isinstance(place, inspect.LiteralType):
        return place.values
    if isinstance(place, inspect.Metadata) and place.extra_json_schema:
        examples: Sequence[Any] = place.extra_json_schema.get("examples", ())
        return examples
    return ()


def _each(places: Iterable[inspect.Type]) -> Iterable[inspect.Type]:
    for place in places:
        if isinstance(place, inspect.UnionType):
            yield from _each(place.types)
        else:
            yield place


def _below(place: inspect.Type, step: str) -> Iterable[inspect.Type]:
    """The types that are allowed one step below a place. A step is a field's name, or an index in
    brackets."""
    if step.startswith("["):
        items: Any = getattr(place, "item_type", None) or getattr(place, "value_type", None)
        return [items] if items is not None else []
    if not isinstance(place, inspect.StructType):
        return []
    if step == place.tag_field:
        return [inspect.LiteralType((place.tag,))]
    return [field.type for field in place.fields if field.encode_name == step]
