"""The parameters behind the question mark of a path."""

from collections import defaultdict
from functools import cache
from typing import TypeVar

import msgspec
from msgspec import Struct, inspect

from gateway.http.context import AnyRequest
from gateway.http.decoding import to_invalid_request
from gateway.observability.reports.ignored_parameters import note_unknown

T = TypeVar("T", bound=Struct)


def read_query(request: AnyRequest, kind: type[T]) -> T:
    """The parameters of a request as `kind`. A list is a parameter that comes several times, as
    OpenAI's clients write it (`include[]=a`) or plainly (`include=a`); of any other the last one
    counts. What `kind` does not know is reported. Raises InvalidRequest."""
    sent: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in request.query_params.multi_items():
        sent[name.removesuffix("[]")].append(value)
    known = _fields(kind)
    note_unknown(request.scope, sent.keys() - known.keys())
    values = {name: sent[name] if known[name] else sent[name][-1] for name in sent.keys() & known}
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise to_invalid_request(error, kind) from error


@cache
def _fields(kind: type[Struct]) -> dict[str, bool]:
    """The names of the parameters, and whether each is a list."""
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType), "parameters are a Struct"
    return {field.encode_name: isinstance(field.type, inspect.ListType) for field in found.fields}
