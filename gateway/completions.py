"""POST /v1/completions."""

import secrets
import time
from collections.abc import Callable, Sequence

from litestar import post
from litestar.types import ASGIApp

from gateway.assembler import Assembler
from gateway.body import read_json
from gateway.context import AnyRequest, context_of, origin_of
from gateway.frames import CompletionShape, Head
from gateway.protocol import CompletionRequest, decode_completion
from gateway.registry import ServedModel
from gateway.service import service_of
from gateway.streaming import Deltas, EventStream, FinishedDeltas, WholeAnswer
from gateway.translate import (
    check_completion,
    check_token_ids,
    completion_prompts,
    completion_requests,
    empty_prompt,
    num_choices,
)
from runtime import GpuMonitor, Request


@post("/v1/completions", status_code=200)
async def create_completion(request: AnyRequest) -> ASGIApp:
    """Continue one or more texts, as a stream or in one piece."""
    data = await read_json(request, decode_completion, CompletionRequest)
    context = context_of(request)
    model = context.models.get(data.model)
    check_completion(data)
    service = service_of(data, origin_of(request))
    given = completion_prompts(data)
    _check_room(data, len(given), model, context.gpus)
    prompts = await _prompts(given, model)
    head = _head(model)
    requests = completion_requests(
        data, prompts, service, answer_id=head.id, max_model_len=model.max_model_len
    )
    assembler = Assembler(
        [request.request_id for request in requests],
        [len(prompt) for prompt in prompts],
        _texts(given, model) if data.echo else (),
    )
    options = data.stream_options
    shape = CompletionShape(head, include_usage=bool(options and options.include_usage))
    submit = _submit(model, requests)
    if not data.stream:
        return WholeAnswer(submit, assembler, shape, context.metrics)
    return EventStream(
        submit, assembler, shape, context.metrics, context.settings.server.keep_alive_interval
    )


def _check_room(
    data: CompletionRequest, num_prompts: int, model: ServedModel, gpus: GpuMonitor
) -> None:
    if data.max_tokens != 0:  # otherwise the engine has no part in it
        gpus.check_memory()
        model.client.check_room(num_prompts * num_choices(data))


def _submit(model: ServedModel, requests: Sequence[Request]) -> Callable[[], Deltas]:
    if requests[0].sampling.max_tokens == 0:  # all have the same: only the prompt was asked for
        return lambda: FinishedDeltas([request.request_id for request in requests])
    return lambda: model.client.submit(requests)


async def _prompts(given: list[str] | list[list[int]], model: ServedModel) -> list[list[int]]:
    token_lists = [item for item in given if isinstance(item, list)]
    if token_lists:
        check_token_ids(token_lists, model.tokenizer.vocab_size)
        return token_lists
    texts = [item for item in given if isinstance(item, str)]
    encoded = await model.encode(texts, add_special=True)
    return [prompt or empty_prompt(model.tokenizer.bos_token_id) for prompt in encoded]


def _texts(given: list[str] | list[list[int]], model: ServedModel) -> list[str]:
    return [item if isinstance(item, str) else model.decode(item) for item in given]


def _head(model: ServedModel) -> Head:
    return Head(
        id=f"cmpl-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=model.name,
        system_fingerprint=model.system_fingerprint,
    )
