"""POST /v1/rerank and POST /v1/score: their requests and their answers as Structs.

Rerank is the endpoint of Jina's and Cohere's APIs, score is vLLM's.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from gateway.api.openai.protocol.requests import WorkRequest

MAX_PAIRS = 2048
"""Pairs of texts in one request."""

MAX_TOKENS = 2048 * 512
"""Tokens of all pairs of one request together."""

NumRead = Annotated[int, Meta(ge=-1, le=2**31 - 1)]


class TextDocument(Struct):
    """A text as an object, as Jina's and Cohere's APIs allow."""

    text: str


Text: TypeAlias = str | TextDocument
Texts: TypeAlias = str | TextDocument | list[str | TextDocument]


class RankingRequest(WorkRequest, kw_only=True):
    """The fields of both endpoints. `max_tokens_per_doc` leaves out the ends of longer documents,
    and `truncate_prompt_tokens` what makes a query and a document longer together; -1 stands for
    what the model reads. With `use_activation` false the score is a reranker's own number."""

    max_tokens_per_doc: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    truncate_prompt_tokens: NumRead | None = None
    use_activation: bool | None = None


class RerankRequest(RankingRequest, kw_only=True):
    """The body of POST /v1/rerank. Without `top_n`, or with 0, all documents are in the answer,
    with their texts unless `return_documents` is false."""

    query: Text
    documents: list[str | TextDocument]
    top_n: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    return_documents: bool | None = None


class ScoreRequest(RankingRequest, kw_only=True):
    """The body of POST /v1/score: `text_1` and `text_2`, or `queries` and `documents`. One text is
    compared with each of the others, or as many texts one by one."""

    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None


class RankedDocument(Struct, frozen=True):
    """The text of a document."""

    text: str


class RankedResult(Struct, frozen=True, omit_defaults=True):
    """A document's place in the request, and its score: the higher, the better it answers."""

    index: int
    relevance_score: float
    document: RankedDocument | None = None


class RankingUsage(Struct, frozen=True):
    """Tokens that were read: a reranker reads the query again with each document."""

    prompt_tokens: int
    total_tokens: int


class RerankAnswer(Struct, frozen=True, kw_only=True):
    """The answer of POST /v1/rerank: the best document first."""

    id: str
    model: str
    usage: RankingUsage
    results: list[RankedResult]


class PairScore(Struct, frozen=True):
    """The score of one pair of texts."""

    index: int
    score: float
    object: Literal["score"] = "score"


class ScoreList(Struct, frozen=True, kw_only=True):
    """The answer of POST /v1/score, in the order of the pairs. `created` is a Unix time."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[PairScore]
    usage: RankingUsage


decode_rerank = msgspec.json.Decoder(RerankRequest).decode
decode_score = msgspec.json.Decoder(ScoreRequest).decode
