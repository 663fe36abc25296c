"""The query of a request as parameters."""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from gateway.api.openai.usage.protocol import MAX_LIMITS, UsageParams
from gateway.chat.parsing.spelling import unknown_parameter
from gateway.http.decoding import to_invalid_request
from runtime.errors import InvalidRequest

T = TypeVar("T", bound=UsageParams)

_LISTS = ("group_by", "models", "api_key_ids")
_NOWHERE = ("project_ids", "user_ids")


def read_params(kind: type[T], query: Iterable[tuple[str, str]]) -> T:
    """Raises InvalidRequest. Lists are repeated names, with `[]` or without."""
    values: dict[str, Any] = {}
    for name, value in query:
        name = name.removesuffix("[]")
        _check_name(kind, name, is_again=name in values)
        if name in _LISTS:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    if values.get("bucket_width") == "1m":
        raise _wrong("bucket_width", "sums are kept by the hour, so that a bucket is `1h` or `1d`")
    try:
        params = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise to_invalid_request(error, kind) from None
    if params.limit is not None and params.limit > (most := MAX_LIMITS[params.bucket_width]):
        raise _wrong("limit", f"a page has at most {most} buckets of {params.bucket_width}")
    return params


def _check_name(kind: type[UsageParams], name: str, *, is_again: bool) -> None:
    known = kind.__struct_fields__
    if name in _NOWHERE:
        raise InvalidRequest(
            f"`{name}` is not supported: this server has no projects and no users. Name keys in"
            " `api_key_ids`.",
            param=name,
            code="unsupported_parameter",
        )
    if name not in known:
        raise unknown_parameter(name, known)
    if is_again and name not in _LISTS:
        raise _wrong(name, "it is there twice; send it once")


def _wrong(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` is wrong: {reason}.", param=param, code="invalid_value")
