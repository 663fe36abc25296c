"""What requests for embeddings and for scores have in common: the way to the engine's vectors."""

import math
import secrets
from collections.abc import Sequence

from litestar.types import Receive, Scope

from gateway.admission.accounts import counted
from gateway.admission.middleware import reserve_prompt_tokens
from gateway.api.openai.protocol.requests import WorkRequest
from gateway.bounds.body_memory import give_back
from gateway.generation.scheduling import Scheduling, SchedulingWish, scheduling_of
from gateway.generation.timeline import EmbeddingTimeline
from gateway.http.context import AnyRequest, Context, caller_of
from gateway.http.loading.wait import until_loaded
from gateway.http.streaming import until_over
from gateway.models.served_model import ServedModel
from gateway.observability.request_record import RequestRecord
from runtime.errors import InvalidRequest
from runtime.messages.embedding import EmbeddingRequest


class Vectors:
    """The vectors of one request, which the engine has yet to compute."""

    def __init__(
        self, model: ServedModel, request: EmbeddingRequest, timeline: EmbeddingTimeline
    ) -> None:
        self._model = model
        self._request = request
        self._timeline = timeline

    @property
    def num_tokens(self) -> int:
        """Tokens of all inputs."""
        return self._timeline.num_tokens

    async def compute(self, scope: Scope, receive: Receive) -> Sequence[bytes] | None:
        """Submit the request and wait for its vectors: little-endian numbers of 32 bits, one vector
        for each input. None when the client has left."""
        request_record = RequestRecord.of(scope)
        stream = self._model.engine.embed(self._request)
        request_record.answer = self._timeline.record
        with self._timeline, until_over(receive, stream, request_record.deadline):
            vectors = await stream.result()
            if vectors is not None:
                self._timeline.finish()
            return vectors


async def scheduled(
    context: Context, request: AnyRequest, data: WorkRequest, model: ServedModel
) -> Scheduling:
    """Waits until the model is loaded. Raises InvalidRequest for an adapter, which has no vectors
    of its own, and the errors of a request that the model cannot have now."""
    wish = SchedulingWish(priority=data.priority, tenant=data.user, deadline=data.deadline)
    scheduling = scheduling_of(wish, caller_of(context, request))
    await until_loaded(request, scheduling.deadline or math.inf)
    context.gpus.check_memory()
    if model.lora:
        raise InvalidRequest(
            "Adapters have no embeddings and no scores: ask for the model that the adapter is"
            " added to.",
            param="model",
            code="unsupported_value",
        )
    return scheduling


def vectors_of(
    context: Context,
    request: AnyRequest,
    model: ServedModel,
    scheduling: Scheduling,
    token_lists: list[list[int]],
) -> Vectors:
    """The inputs as a request to the engine. Their tokens are reserved from the limits of the key,
    and the memory of the body is given back."""
    give_back(request.scope)
    metrics = context.metrics.of(model.name)
    timeline = EmbeddingTimeline(metrics, scheduling.arrival_time, token_lists)
    reserve_prompt_tokens(request.scope, timeline.num_tokens, lambda: timeline.num_used)
    counted(request.scope, context.ledger, timeline.record)
    engine_request = EmbeddingRequest(
        request_id=f"embd-{secrets.token_hex(16)}",
        inputs=token_lists,
        priority=scheduling.priority,
        tenant=scheduling.tenant,
        arrival_time=scheduling.arrival_time,
        deadline=scheduling.deadline,
    )
    return Vectors(model, engine_request, timeline)
