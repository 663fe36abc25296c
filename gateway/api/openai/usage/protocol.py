"""The parameters and the answers of the usage endpoints."""

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

Width = Literal["1m", "1h", "1d"]
CompletionsGroup = Literal["project_id", "user_id", "api_key_id", "model", "batch", "endpoint"]
EmbeddingsGroup = Literal["project_id", "user_id", "api_key_id", "model", "endpoint"]

MAX_TIME = 100_000_000_000
"""Seconds since 1970, in some three thousand years."""

MAX_NAMES = 100
"""Models or keys that a request may name."""

DEFAULT_LIMITS = {"1h": 24, "1d": 7}
MAX_LIMITS = {"1h": 168, "1d": 31}
"""Buckets of one page."""

_Time = Annotated[int, Meta(ge=0, le=MAX_TIME)]
_Limit = Annotated[int, Meta(ge=1)]
_Names = Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=MAX_NAMES)]
_Cursor = Annotated[str, Meta(pattern="^page_[0-9]{1,12}$")]


class _Params(Struct, frozen=True, kw_only=True):
    """`end_time` is exclusive; None is now. Sums are kept by the hour, so both are taken to the
    hours around them. Empty lists select everything. `1m`, projects and users are refused."""

    start_time: _Time
    end_time: _Time | None = None
    bucket_width: Width = "1d"
    models: _Names = []
    api_key_ids: _Names = []
    project_ids: _Names = []
    user_ids: _Names = []
    limit: _Limit | None = None
    page: _Cursor | None = None
    format: Literal["json", "csv"] | None = None


class CompletionsParams(_Params, frozen=True, kw_only=True):
    """The parameters of /v1/organization/usage/completions. Requests of batches are told apart from
    others by `batch`; None selects both."""

    group_by: Annotated[list[CompletionsGroup], Meta(max_length=10)] = []
    batch: bool | None = None


class EmbeddingsParams(_Params, frozen=True, kw_only=True):
    """The parameters of /v1/organization/usage/embeddings."""

    group_by: Annotated[list[EmbeddingsGroup], Meta(max_length=10)] = []


UsageParams: TypeAlias = CompletionsParams | EmbeddingsParams


class _Groups(Struct, frozen=True, kw_only=True):
    """What the results of a bucket are grouped by, and null what they are not. Keys are named as in
    the file of keys. Projects and users are always null: there are none. OpenAI does not have
    `endpoint`."""

    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    endpoint: str | None = None


class CompletionsResult(_Groups, frozen=True, kw_only=True):
    """`input_cached_tokens` are part of `input_tokens`, and `output_reasoning_tokens`, which OpenAI
    does not have, of `output_tokens`."""

    object: Literal["organization.usage.completions.result"] = (
        "organization.usage.completions.result"
    )
    num_model_requests: int
    input_tokens: int
    input_cached_tokens: int
    output_tokens: int
    output_reasoning_tokens: int
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    batch: bool | None = None
    service_tier: str | None = None


class EmbeddingsResult(_Groups, frozen=True, kw_only=True):
    """What embeddings, rerank and score have used."""

    object: Literal["organization.usage.embeddings.result"] = "organization.usage.embeddings.result"
    num_model_requests: int
    input_tokens: int


class _Bucket(Struct, frozen=True, kw_only=True):
    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int


class CompletionsBucket(_Bucket, frozen=True, kw_only=True):
    """A day or an hour of UTC, the first and the last cut to the hours that were asked for. It has
    no results if nothing was used."""

    results: list[CompletionsResult]


class EmbeddingsBucket(_Bucket, frozen=True, kw_only=True):
    """The same of embeddings."""

    results: list[EmbeddingsResult]


class _Page(Struct, frozen=True, kw_only=True):
    """`kept_since`, which OpenAI does not have, is there if nothing is stored: the server has
    counted since then, in seconds since 1970."""

    object: Literal["page"] = "page"
    has_more: bool
    next_page: str | None
    kept_since: int | UnsetType = UNSET


class CompletionsUsage(_Page, frozen=True, kw_only=True):
    """The answer of GET /v1/organization/usage/completions."""

    data: list[CompletionsBucket]


class EmbeddingsUsage(_Page, frozen=True, kw_only=True):
    """The answer of GET /v1/organization/usage/embeddings."""

    data: list[EmbeddingsBucket]
