"""POST /v1/rerank and POST /v1/score."""

import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

from litestar import post
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.api.openai.bodies import RERANK_BODY, SCORE_BODY
from gateway.api.openai.ranking.answer import RankingAnswer
from gateway.api.openai.ranking.inputs import best_first, compared_inputs, scores_of
from gateway.api.openai.ranking.protocol import (
    PairScore,
    RankedDocument,
    RankedResult,
    RankingRequest,
    RankingUsage,
    RerankAnswer,
    RerankRequest,
    ScoreList,
    ScoreRequest,
)
from gateway.api.openai.ranking.texts import Comparison, reranked, scored
from gateway.api.openai.vectors import scheduled, vectors_of
from gateway.http.body import apart, while_connected
from gateway.http.context import AnyRequest, Context, CurrentContext, served_model
from gateway.http.route_facts import ENGINE_ERRORS, facts
from gateway.models.served_model import ServedModel

_RERANK_FACTS = facts(
    operation="rerank", body=RerankRequest, answer=RerankAnswer, errors=ENGINE_ERRORS
)
_SCORE_FACTS = facts(operation="score", body=ScoreRequest, answer=ScoreList, errors=ENGINE_ERRORS)

Write = Callable[[ServedModel, RankingUsage, Sequence[float]], Struct]
"""Makes an answer of the scores."""


@post(["/v1/rerank", "/v2/rerank"], status_code=200, opt=_RERANK_FACTS)
async def rerank(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Order documents by how well they answer a query."""
    data = await RERANK_BODY.read(request)
    comparison = await apart(request, reranked, data)
    write = partial(_ranked, data, comparison)
    return await _respond(context, request, data, comparison, write)


@post("/v1/score", status_code=200, opt=_SCORE_FACTS)
async def score(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Compare one text with each of others, or the texts of two lists one by one."""
    data = await SCORE_BODY.read(request)
    comparison = await apart(request, scored, data)
    return await _respond(context, request, data, comparison, _listed)


async def _respond(
    context: Context,
    request: AnyRequest,
    data: RankingRequest,
    comparison: Comparison,
    write: Write,
) -> ASGIApp:
    model = await served_model(context, request, data)
    scheduling = await scheduled(context, request, data, model)
    limits = model.engine.check_scores()
    inputs = await while_connected(request, compared_inputs(comparison, model, limits))
    vectors = vectors_of(context, request, model, scheduling, inputs.token_lists)
    usage = RankingUsage(vectors.num_tokens, vectors.num_tokens)
    return RankingAnswer(
        vectors,
        partial(scores_of, inputs=inputs, scoring=limits.scoring, is_raw=comparison.is_raw),
        partial(write, model, usage),
    )


def _ranked(
    data: RerankRequest,
    comparison: Comparison,
    model: ServedModel,
    usage: RankingUsage,
    scores: Sequence[float],
) -> RerankAnswer:
    """The best first; of equal ones the first."""
    order = best_first(scores)
    has_texts = data.return_documents is not False
    texts = [RankedDocument(pair.document) if has_texts else None for pair in comparison.pairs]
    return RerankAnswer(
        id=f"rerank-{secrets.token_hex(16)}",
        model=model.name,
        usage=usage,
        results=[
            RankedResult(index, scores[index], texts[index])
            for index in order[: data.top_n or None]
        ],
    )


def _listed(model: ServedModel, usage: RankingUsage, scores: Sequence[float]) -> ScoreList:
    return ScoreList(
        id=f"score-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=model.name,
        data=[PairScore(index, each) for index, each in enumerate(scores)],
        usage=usage,
    )
