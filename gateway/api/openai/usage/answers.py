"""The answers of the usage endpoints, as JSON and as CSV. Pure."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise

from msgspec import UNSET, Struct

from gateway.api.openai.usage.buckets import Spans, bucket_sums
from gateway.api.openai.usage.protocol import (
    CompletionsBucket,
    CompletionsParams,
    CompletionsResult,
    CompletionsUsage,
    EmbeddingsBucket,
    EmbeddingsResult,
    EmbeddingsUsage,
    UsageParams,
)
from gateway.generation.writer import encode
from gateway.store.usage import Counts, UsageKey
from gateway.usage.ledger import Sums

EMBEDDING_ENDPOINTS = frozenset({"/v1/embeddings", "/v1/rerank", "/v2/rerank", "/v1/score"})
"""Those whose usage is told as that of embeddings; all others are completions."""

GROUPS = ("api_key_id", "model", "batch", "endpoint")


class _Form(Struct, frozen=True):
    """The types of a page, of its buckets and of their results, and the counts of a result."""

    page: Callable[..., Struct]
    bucket: Callable[..., Struct]
    result: Callable[..., Struct]
    counts: Callable[[Counts], dict[str, int]]


def _completions_counts(counts: Counts) -> dict[str, int]:
    return {
        "num_model_requests": counts.num_requests,
        "input_tokens": counts.input_tokens,
        "input_cached_tokens": counts.cached_tokens,
        "output_tokens": counts.output_tokens,
        "output_reasoning_tokens": counts.reasoning_tokens,
    }


def _embeddings_counts(counts: Counts) -> dict[str, int]:
    return {"num_model_requests": counts.num_requests, "input_tokens": counts.input_tokens}


_COMPLETIONS = _Form(CompletionsUsage, CompletionsBucket, CompletionsResult, _completions_counts)
_EMBEDDINGS = _Form(EmbeddingsUsage, EmbeddingsBucket, EmbeddingsResult, _embeddings_counts)


def wanted_keys(sums: Sums, params: UsageParams) -> list[UsageKey]:
    """The keys of the sums that the parameters select."""
    is_embeddings = not isinstance(params, CompletionsParams)
    batch = params.batch if isinstance(params, CompletionsParams) else None
    return [
        key
        for key in sums
        if (key.endpoint in EMBEDDING_ENDPOINTS) == is_embeddings
        and (not params.models or key.model in params.models)
        and (not params.api_key_ids or key.owner in params.api_key_ids)
        and batch in (None, key.is_batch)
    ]


def written(sums: Sums, params: UsageParams, spans: Spans, since: float | None) -> bytes:
    """The answer as JSON. `since` is `Ledger.since`."""
    form = _form_of(params)
    sums_of_buckets = bucket_sums(sums, spans, params.group_by, wanted_keys(sums, params))
    page = form.page(
        data=[
            form.bucket(
                start_time=start,
                end_time=end,
                results=[
                    form.result(**dict(group), **form.counts(counts)) for group, counts in each
                ],
            )
            for (start, end), each in zip(pairwise(spans.edges), sums_of_buckets, strict=True)
        ],
        has_more=spans.next_page is not None,
        next_page=spans.next_page,
        kept_since=UNSET if since is None else int(since),
    )
    return encode(page)


def written_csv(sums: Sums, params: UsageParams, spans: Spans) -> bytes:
    """The answer as CSV: a line for each result, with the fields that it is grouped by."""
    form = _form_of(params)
    sums_of_buckets = bucket_sums(sums, spans, params.group_by, wanted_keys(sums, params))
    names = [name for name in GROUPS if name in params.group_by]
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    lines.writerow(["start_time", "end_time", *names, *form.counts(Counts())])
    for (start, end), each in zip(pairwise(spans.edges), sums_of_buckets, strict=True):
        for group, counts in each:
            cells = [_cell(dict(group)[name]) for name in names]
            lines.writerow([_iso(start), _iso(end), *cells, *form.counts(counts).values()])
    return text.getvalue().encode()


def _form_of(params: UsageParams) -> _Form:
    return _COMPLETIONS if isinstance(params, CompletionsParams) else _EMBEDDINGS


def _cell(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _iso(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
