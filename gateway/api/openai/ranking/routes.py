"""POST /v1/rerank and POST /v1/score."""

import math
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

from litestar import post
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.admission.middleware import reserve_prompt_tokens
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
from gateway.bounds.body_memory import give_back
from gateway.generation.scheduling import SchedulingWish, scheduling_of
from gateway.generation.timeline import EmbeddingTimeline
from gateway.http.body import apart, while_connected
from gateway.http.context import AnyRequest, Context, CurrentContext, caller_of, served_model
from gateway.http.loading.wait import until_loaded
from gateway.http.route_facts import ENGINE_ERRORS, facts
from gateway.models.served_model import ServedModel
from runtime.errors import InvalidRequest
from runtime.messages.embedding import EmbeddingRequest as EngineRequest

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
    model = served_model(context, request, data)
    wish = SchedulingWish(priority=data.priority, tenant=data.user, deadline=data.deadline)
    scheduling = scheduling_of(wish, caller_of(context, request))
    await until_loaded(request, scheduling.deadline or math.inf)
    context.gpus.check_memory()
    limits = model.engine.check_scores()
    _check_adapter(model)
    inputs = await while_connected(request, compared_inputs(comparison, model, limits))
    give_back(request.scope)
    timeline = EmbeddingTimeline(
        context.metrics.of(model.name), scheduling.arrival_time, inputs.token_lists
    )
    reserve_prompt_tokens(request.scope, timeline.num_tokens, lambda: timeline.num_used)
    engine_request = EngineRequest(
        request_id=f"rank-{secrets.token_hex(16)}",
        inputs=inputs.token_lists,
        priority=scheduling.priority,
        tenant=scheduling.tenant,
        arrival_time=scheduling.arrival_time,
        deadline=scheduling.deadline,
    )
    usage = RankingUsage(timeline.num_tokens, timeline.num_tokens)
    return RankingAnswer(
        model,
        engine_request,
        timeline,
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


def _check_adapter(model: ServedModel) -> None:
    if model.lora:
        raise InvalidRequest(
            "Adapters have no scores: ask for the model that the adapter is added to.",
            param="model",
            code="unsupported_value",
        )
