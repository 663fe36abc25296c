"""GET /v1/organization/usage/completions and /v1/organization/usage/embeddings."""

from collections.abc import Mapping
from functools import partial

from litestar import get
from litestar.types import ASGIApp

from gateway.admission.owner import reader_of
from gateway.api.openai.usage.answers import written, written_csv
from gateway.api.openai.usage.buckets import Spans, spans_of
from gateway.api.openai.usage.params import usage_params
from gateway.api.openai.usage.protocol import (
    CompletionsParams,
    CompletionsUsage,
    EmbeddingsParams,
    EmbeddingsUsage,
    UsageParams,
)
from gateway.http.context import AnyRequest, Context, CurrentContext
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts

CSV = "text/csv"


@get(
    "/v1/organization/usage/completions",
    opt=facts(query=CompletionsParams, answer=CompletionsUsage, text_type=CSV, errors=(400, 503)),
)
async def completions_usage(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """What the request's key has used to generate text, or with an admin's key what all keys have,
    in days or hours of UTC. `format=csv` answers with a table."""
    params = usage_params(request, CompletionsParams)
    return await _usage(request, context, params)


@get(
    "/v1/organization/usage/embeddings",
    opt=facts(query=EmbeddingsParams, answer=EmbeddingsUsage, text_type=CSV, errors=(400, 503)),
)
async def embeddings_usage(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """The same of embeddings, rerank and score."""
    params = usage_params(request, EmbeddingsParams)
    return await _usage(request, context, params)


async def _usage(request: AnyRequest, context: Context, params: UsageParams) -> ASGIApp:
    ledger = context.ledger
    spans = spans_of(params, ledger.clock())
    query = spans.query(reader_of(request.scope))
    if not _wants_csv(request, params):
        write = partial(written, params=params, spans=spans, since=ledger.since)
        return JSONBytes(await ledger.ask(query, write))
    table = await ledger.ask(query, partial(written_csv, params=params, spans=spans))
    return JSONBytes(table, headers=_next_page(spans), media_type=f"{CSV}; charset=utf-8")


def _wants_csv(request: AnyRequest, params: UsageParams) -> bool:
    if params.format is not None:
        return params.format == "csv"
    return request.headers.get("accept", "").partition(";")[0].strip().lower() == CSV


def _next_page(spans: Spans) -> Mapping[str, str]:
    return {} if spans.next_page is None else {"x-next-page": spans.next_page}
