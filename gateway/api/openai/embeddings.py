"""POST /v1/embeddings: texts to vectors."""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Sequence

from litestar import post
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.admission.middleware import reserve_prompt_tokens
from gateway.api.openai.bodies import EMBEDDING_BODY
from gateway.api.openai.protocol.embedding import (
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
    Inputs,
)
from gateway.api.openai.translate.embedding import check_tokens, encoded, given_inputs, input_place
from gateway.bounds.body_memory import give_back
from gateway.bounds.work_pool import Work
from gateway.generation.scheduling import Scheduling, SchedulingWish, scheduling_of
from gateway.generation.timeline import EmbeddingTimeline
from gateway.generation.writer import encode
from gateway.http.body import apart, while_connected, work_for
from gateway.http.context import AnyRequest, CurrentContext, caller_of, served_model
from gateway.http.loading.wait import until_loaded
from gateway.http.route_facts import ENGINE_ERRORS, facts
from gateway.http.streaming import until_over
from gateway.models.served_model import ServedModel
from gateway.observability.request_record import RequestRecord
from runtime.errors import InvalidRequest
from runtime.messages.embedding import EmbeddingRequest as EngineRequest
from runtime.messages.engine import EngineLimits

WRITTEN_NUMBERS = 50_000
"""Numbers that are turned into JSON at once, in a few milliseconds: then others have their turn."""

FACTS = facts(
    operation="embeddings", body=EmbeddingRequest, answer=EmbeddingList, errors=ENGINE_ERRORS
)


@post("/v1/embeddings", status_code=200, opt=FACTS)
async def create_embedding(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Turn one or more texts into vectors of length 1."""
    data = await EMBEDDING_BODY.read(request)
    model = served_model(context, request, data)
    inputs = await apart(request, given_inputs, data)
    wish = SchedulingWish(priority=data.priority, tenant=data.user, deadline=data.deadline)
    scheduling = scheduling_of(wish, caller_of(context, request))
    await until_loaded(request, scheduling.deadline or math.inf)
    context.gpus.check_memory()
    limits = model.engine.check_embeddings()
    _check_adapter(model)
    await _check_dimensions(data, model, limits.embedding_width)
    token_lists = await while_connected(
        request, _token_lists(data, inputs, model, limits, work_for(request))
    )
    give_back(request.scope)
    started = scheduling.arrival_time
    timeline = EmbeddingTimeline(context.metrics.of(model.name), started, token_lists)
    reserve_prompt_tokens(request.scope, timeline.num_tokens, lambda: timeline.num_used)
    return EmbeddingAnswer(data, model, _engine_request(token_lists, scheduling), timeline)


class EmbeddingAnswer:
    """The response: submits the request, waits for its vectors and writes them in pieces."""

    def __init__(
        self,
        data: EmbeddingRequest,
        model: ServedModel,
        request: EngineRequest,
        timeline: EmbeddingTimeline,
    ) -> None:
        self._data = data
        self._model = model
        self._request = request
        self._timeline = timeline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_record = RequestRecord.of(scope)
        stream = self._model.engine.embed(self._request)
        request_record.answer = self._timeline.record
        with self._timeline, until_over(receive, stream, request_record.deadline):
            vectors = await stream.result()
            if vectors is None:
                return  # the client has left
            self._timeline.finish()
        pieces = [piece async for piece in self._pieces(vectors)]
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % sum(map(len, pieces))),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self, vectors: Sequence[bytes]) -> AsyncIterator[bytes]:
        """The JSON of an `EmbeddingList`."""
        at_once = max(1, WRITTEN_NUMBERS * 4 // len(vectors[0]))
        yield b'{"object":"list","data":['
        for start in range(0, len(vectors), at_once):
            part = enumerate(vectors[start : start + at_once], start)
            body = b",".join([encode(encoded(index, each, self._data)) for index, each in part])
            yield b"," + body if start else body
            await asyncio.sleep(0)
        num_tokens = self._timeline.num_tokens
        usage = encode(EmbeddingUsage(num_tokens, num_tokens))
        yield b'],"model":%s,"usage":%s}' % (encode(self._model.name), usage)


def _engine_request(token_lists: list[list[int]], scheduling: Scheduling) -> EngineRequest:
    return EngineRequest(
        request_id=f"embd-{secrets.token_hex(16)}",
        inputs=token_lists,
        priority=scheduling.priority,
        tenant=scheduling.tenant,
        arrival_time=scheduling.arrival_time,
        deadline=scheduling.deadline,
    )


async def _token_lists(
    data: EmbeddingRequest, inputs: Inputs, model: ServedModel, limits: EngineLimits, work: Work
) -> list[list[int]]:
    """Token ids, checked. The tokenizer adds its special tokens to texts; token ids stay as they
    are."""
    token_lists = [item for item in inputs if isinstance(item, list)]
    if not token_lists:
        texts = [item for item in inputs if isinstance(item, str)]
        places = [input_place(data, index) for index in range(len(texts))]
        token_lists = await model.encode(
            texts, add_special=True, most=limits.max_embedding_len, places=places
        )
    most, vocab_size = limits.max_embedding_len, model.tokenizer.vocab_size
    await work(check_tokens, data, token_lists, most=most, vocab_size=vocab_size)
    return token_lists


def _check_adapter(model: ServedModel) -> None:
    if model.lora:
        raise InvalidRequest(
            "Adapters have no embeddings: ask for the model that the adapter is added to.",
            param="model",
            code="unsupported_value",
        )


async def _check_dimensions(data: EmbeddingRequest, model: ServedModel, width: int) -> None:
    if data.dimensions is None or data.dimensions == width:
        return
    if data.dimensions > width:
        raise InvalidRequest(
            f"`dimensions` is {data.dimensions}; the vectors of this model have {width}.",
            param="dimensions",
        )
    if not await model.is_matryoshka():
        raise InvalidRequest(
            f"`dimensions` is not supported by this model, which was not trained for shorter"
            f" vectors: leave it out, or send {width}. If the model was, set model.is_matryoshka.",
            param="dimensions",
            code="unsupported_parameter",
        )
