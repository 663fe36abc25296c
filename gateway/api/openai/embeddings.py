"""POST /v1/embeddings: texts to vectors."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from litestar import post
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.api.openai.bodies import EMBEDDING_BODY
from gateway.api.openai.protocol.embedding import (
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
    Inputs,
)
from gateway.api.openai.translate.embedding import (
    check_tokens,
    encoded,
    given_inputs,
    input_place,
    text_role,
    with_prompt,
)
from gateway.api.openai.vectors import Vectors, scheduled, vectors_of
from gateway.bounds.work_pool import Work
from gateway.generation.writer import encode
from gateway.http.body import apart, while_connected, work_for
from gateway.http.context import AnyRequest, CurrentContext, served_model
from gateway.http.route_facts import ENGINE_ERRORS, facts
from gateway.models.served_model import ServedModel
from gateway.observability.reports.ignored_parameters import note_ignored
from gateway.observability.request_record import RequestRecord
from runtime.errors import InvalidRequest
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
    model = await served_model(context, request, data)
    inputs = await apart(request, given_inputs, data)
    scheduling = await scheduled(context, request, data, model)
    limits = model.engine.check_embeddings()
    inputs = _prompted(request, data, inputs, model)
    await _check_dimensions(data, model, limits.embedding_width)
    token_lists = await while_connected(
        request, _token_lists(data, inputs, model, limits, work_for(request))
    )
    vectors = vectors_of(context, request, model, scheduling, token_lists)
    return EmbeddingAnswer(data, model.name, vectors)


class EmbeddingAnswer:
    """The response: waits for the vectors and writes them in pieces."""

    def __init__(self, data: EmbeddingRequest, model: str, vectors: Vectors) -> None:
        self._data = data
        self._model = model
        self._vectors = vectors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        vectors = await self._vectors.compute(scope, receive)
        if vectors is None:
            return  # the client has left
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
        num_tokens = self._vectors.num_tokens
        usage = encode(EmbeddingUsage(num_tokens, num_tokens))
        yield b'],"model":%s,"usage":%s}' % (encode(self._model), usage)


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


def _prompted(
    request: AnyRequest, data: EmbeddingRequest, inputs: Inputs, model: ServedModel
) -> Inputs:
    """The texts with the model's prompt before each, if the client has said what they are for."""
    if not data.input_type:
        return inputs
    role = text_role(data.input_type)
    prompts = model.text_prompts
    if not prompts.by_role:
        name = RequestRecord.of(request.scope).param_names.get("input_type", "input_type")
        note_ignored(request.scope, {name: "this model is known to want nothing before texts"})
    prompt = prompts.of(role)
    return with_prompt(prompt, inputs) if prompt else inputs


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
