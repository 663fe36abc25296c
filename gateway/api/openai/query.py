"""The parameters in the URL of a request."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct

from gateway.http.context import AnyRequest
from gateway.http.decoding import to_invalid_request
from gateway.observability.reports.ignored_parameters import note_unknown
from runtime.errors import InvalidRequest

MAX_PARAMETERS = 100

T = TypeVar("T", bound=Struct)


class PageQuery(Struct, frozen=True, kw_only=True):
    """Which part of a list is asked for: the records after, or before, the one of this id."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str = ""


def query_of(request: AnyRequest, kind: type[T]) -> T:
    """The parameters as a Struct. A list is given by its name several times, with or without `[]`
    behind it. Names that `kind` does not have are reported. Raises InvalidRequest, which names the
    parameter."""
    text = bytes(request.scope["query_string"])
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError as error:
        raise InvalidRequest(
            "The part of the URL behind `?` has to be percent-encoded UTF-8, with at most"
            f" {MAX_PARAMETERS} parameters.",
            param=None,
        ) from error
    return _as(kind, pairs, request.scope)


def _as(kind: type[T], pairs: Iterable[tuple[str, str]], scope: Any) -> T:
    found: dict[str, Any] = {}
    lists, unknown = _lists(kind), list[str]()
    for name, value in pairs:
        plain = name.removesuffix("[]")
        if plain not in kind.__struct_fields__:
            unknown.append(name)
        elif lists[plain]:
            found.setdefault(plain, []).append(value)
        else:
            found[plain] = value
    note_unknown(scope, unknown)
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise to_invalid_request(error, kind) from error


@cache
def _lists(kind: type[Struct]) -> Mapping[str, bool]:
    """Whether each parameter is a list."""
    hints = get_type_hints(kind)
    return {name: get_origin(hints[name]) is list for name in kind.__struct_fields__}
