"""What a request asks of the usage."""

from typing import TypeVar

from gateway.api.openai.query import read_query
from gateway.api.openai.usage.protocol import (
    MAX_LIMITS,
    CompletionsParams,
    EmbeddingsParams,
    UsageParams,
)
from gateway.http.context import AnyRequest
from runtime.errors import InvalidRequest

T = TypeVar("T", CompletionsParams, EmbeddingsParams)


def usage_params(request: AnyRequest, kind: type[T]) -> T:
    """Raises InvalidRequest, which names the parameter."""
    params = read_query(request, kind)
    if params.bucket_width == "1m":
        raise wrong("bucket_width", "sums are kept by the hour, so that a bucket is `1h` or `1d`")
    if params.limit is not None and params.limit > (most := MAX_LIMITS[params.bucket_width]):
        raise wrong("limit", f"a page has at most {most} buckets of {params.bucket_width}")
    _check_places(params)
    return params


def _check_places(params: UsageParams) -> None:
    for name, values in (("project_ids", params.project_ids), ("user_ids", params.user_ids)):
        if values:
            raise InvalidRequest(
                f"`{name}` is not supported: this server has no projects and no users. Name keys"
                " in `api_key_ids`.",
                param=name,
                code="unsupported_parameter",
            )


def wrong(param: str, reason: str) -> InvalidRequest:
    """The error of a parameter's value."""
    return InvalidRequest(f"`{param}` is wrong: {reason}.", param=param, code="invalid_value")
