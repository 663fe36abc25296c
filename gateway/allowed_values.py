"""Which values a place in a body takes: for the message about one that it does not take."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from msgspec import inspect

MAX_VALUES = 20
"""More are not told: nobody reads them."""

_type_info = cache(inspect.type_info)
_STEP = re.compile(r"\[[^\]]*\]|[^.\[\]]+")


def allowed_values(kind: type, path: str) -> list[str]:
    """The words of the place that msgspec calls `path` in a value of `kind`: `messages[0].role`.
    Empty where it takes none in particular, or more than `MAX_VALUES`."""
    places = [_type_info(kind)]
    for step in _STEP.findall(path):
        places = [below for place in _each(places) for below in _below(place, step)]
    words = dict.fromkeys(
        str(word)
        for place in _each(places)
        if isinstance(place, inspect.LiteralType)
        for word in place.values
    )
    return list(words) if len(words) <= MAX_VALUES else []


def _each(places: Iterable[inspect.Type]) -> Iterable[inspect.Type]:
    for place in places:
        if isinstance(place, inspect.UnionType):
            yield from _each(place.types)
        else:
            yield place


def _below(place: inspect.Type, step: str) -> Iterable[inspect.Type]:
    """What may stand below a place; a step is a field's name, or an index in brackets."""
    if step.startswith("["):
        items: Any = getattr(place, "item_type", None) or getattr(place, "value_type", None)
        return [items] if items is not None else []
    if not isinstance(place, inspect.StructType):
        return []
    if step == place.tag_field:
        return [inspect.LiteralType((place.tag,))]
    return [field.type for field in place.fields if field.encode_name == step]
