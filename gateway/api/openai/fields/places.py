"""Finds the fields inside a body that its Structs do not declare. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw, Struct, inspect

from gateway.api.openai.protocol.tools import FUNCTION, Tool
from gateway.api.openai.responses.protocol import ITEMS, ResponseTool

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode

_OPENINGS = (b"{", b"[")

_TAGS: Mapping[type[Struct], tuple[str, str]] = {
    Tool: ("type", FUNCTION),
    ResponseTool: ("type", FUNCTION),
    **{kind: ("type", tag) for tag, kind in ITEMS.items()},
}
"""Structs of one type of object among others, which msgspec does not tell apart itself: the field
that does, and its value."""


class Undeclared(Struct, frozen=True):
    """A field called `name` of an object at `where`, which has the declared fields of `kind`."""

    kind: type[Struct]
    where: str
    name: str
    value: Raw

    @property
    def path(self) -> str:
        """The field's place in the body, such as `messages[0].images`."""
        return f"{self.where}.{self.name}"


class Shape(Struct, frozen=True):
    """The declared fields of an object, and what may be inside them."""

    kind: type[Struct]
    known: frozenset[str]
    inner: Mapping[str, "Place"]


class Place(Struct, frozen=True):
    """A place in a body: an object of one of these `shapes`, which the value of `tag_field` tells
    apart, or a list of `items`. Without a tag the shape is that of `default`."""

    shapes: Mapping[str, Shape] = {}
    tag_field: str = ""
    default: str = ""
    items: "Place | None" = None


def place_of(kind: Any) -> Place | None:
    """The place of values of a type; None if no Struct is in them."""
    return _place([inspect.type_info(kind)])


def places_in(kind: type[Struct]) -> Mapping[str, Place]:
    """The places in the fields of a body."""
    found = {field.encode_name: _place([field.type]) for field in _fields(kind)}
    return {name: place for name, place in found.items() if place is not None}


def list_of(kinds: Iterable[type[Struct]], default: str = "") -> Place:
    """The place of a list of objects of these kinds, of which msgspec makes no union."""
    item = _place([inspect.type_info(kind) for kind in kinds])
    assert item is not None, "a Struct has a place"
    return Place(items=msgspec.structs.replace(item, default=default))


def undeclared(raw: Raw, place: Place, where: str) -> Iterator[Undeclared]:
    """The undeclared fields of all objects in a value, which has been decoded before."""
    opening = bytes(memoryview(raw)[:1])
    if opening == b"[" and place.items is not None:
        for index, item in enumerate(_decode_list(raw)):
            if bytes(memoryview(item)[:1]) in _OPENINGS:
                yield from undeclared(item, place.items, f"{where}[{index}]")
    elif opening == b"{" and place.shapes:
        fields = _decode_fields(raw)
        if (shape := _shape_of(fields, place)) is not None:
            yield from _in_object(fields, shape, where)


def _shape_of(fields: Mapping[str, Raw], place: Place) -> Shape | None:
    """None for an object of another type."""
    tag = fields.get(place.tag_field)
    if tag is None or (written := bytes(tag)) == b"null":
        return place.shapes.get(place.default)
    plain = written[1:-1].decode()
    return place.shapes.get(str(msgspec.json.decode(tag)) if "\\" in plain else plain)


def _in_object(fields: Mapping[str, Raw], shape: Shape, where: str) -> Iterator[Undeclared]:
    if not fields.keys() <= shape.known:
        for name in fields.keys() - shape.known:
            yield Undeclared(shape.kind, where, name, fields[name])
    for name, inner in shape.inner.items():
        if (value := fields.get(name)) is not None and bytes(memoryview(value)[:1]) in _OPENINGS:
            yield from undeclared(value, inner, f"{where}.{name}")


def _place(types: Iterable[inspect.Type]) -> Place | None:
    tag_field, shapes, items = "", {}, []
    for each in _flat(types):
        if isinstance(each, inspect.StructType):
            tag_field, tag = _TAGS.get(each.cls, (each.tag_field or "", str(each.tag or "")))
            shapes[tag] = _shape(each.cls)
        elif isinstance(each, inspect.ListType):
            items.append(each.item_type)
    inner = _place(items) if items else None
    return Place(shapes, tag_field, items=inner) if shapes or inner else None


def _flat(types: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    for each in types:
        if isinstance(each, inspect.UnionType):
            yield from _flat(each.types)
        elif isinstance(each, inspect.Metadata):
            yield from _flat([each.type])
        else:
            yield each


@cache
def _shape(kind: type[Struct]) -> Shape:
    names = [field.encode_name for field in _fields(kind)]
    tag_field = kind.__struct_config__.tag_field
    known = frozenset([*names, tag_field] if tag_field else names)
    return Shape(kind, known, places_in(kind))


@cache
def _fields(kind: type[Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType), "a Struct"
    return info.fields
