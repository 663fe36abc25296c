"""The parameters behind the question mark of a path."""

from collections import defaultdict
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, inspect

from gateway.http.context import AnyRequest
from gateway.http.decoding import to_invalid_request
from gateway.observability.reports.ignored_parameters import note_unknown

T = TypeVar("T", bound=Struct)


def read_query(request: AnyRequest, kind: type[T]) -> T:
    """The parameters of a request as `kind`. A list is a parameter that comes several times, as
    OpenAI's clients write it (`include[]=a`) or plainly (`include=a`). An object is written by its
    entries (`metadata[key]=a`). Of any other parameter the last one counts. What `kind` does not
    know is reported. Raises InvalidRequest."""
    known, objects = _fields(kind), dict[str, Any]()
    sent: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in request.query_params.multi_items():
        plain, _, key = name.partition("[")
        if known.get(plain) is inspect.DictType:
            objects[plain] = _with_entry(objects.get(plain, {}), key, value)
        else:
            sent[name.removesuffix("[]")].append(value)
    note_unknown(request.scope, sent.keys() - known.keys())
    values = {
        name: sent[name] if known[name] is inspect.ListType else sent[name][-1]
        for name in sent.keys() & known
    }
    try:
        return msgspec.convert({**values, **objects}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise to_invalid_request(error, kind) from error


def _with_entry(entries: Any, key: str, value: str) -> Any:
    """The entries of an object with one more. What is not written as an entry takes the place of
    them all, and is refused by the type of the parameter."""
    if not isinstance(entries, dict) or not key.endswith("]"):
        return value
    return {**entries, key.removesuffix("]"): value}


@cache
def _fields(kind: type[Struct]) -> dict[str, type[inspect.Type]]:
    """The names of the parameters, and what each is."""
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType), "parameters are a Struct"
    return {field.encode_name: type(field.type) for field in found.fields}
