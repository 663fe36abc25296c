"""POST /v1/completions."""

import secrets
import time
from collections.abc import Callable, Sequence

from litestar import post
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.admission.guard import reserve_tokens
from gateway.api.openai.protocol.requests import CompletionRequest, StreamOptions, decode_completion
from gateway.api.openai.translate.checks import (
    DEFAULT_COMPLETION_TOKENS,
    check_completion,
    num_candidates,
    num_choices,
)
from gateway.api.openai.translate.prompts import check_fim, completion_prompts
from gateway.api.openai.translate.sampling import check_sampling_tokens, scores_prompt
from gateway.api.openai.writers.best_of import BestOf
from gateway.api.openai.writers.completion import CompletionWriter
from gateway.api.openai.writers.logprobs import CompletionLogprobsWriter
from gateway.generation.assembler import Assembler
from gateway.generation.events import Echo
from gateway.generation.prompts import check_token_ids, empty_prompt, fim_prompt, truncate
from gateway.generation.requests import completion_requests
from gateway.generation.run import Deltas, FinishedDeltas
from gateway.generation.scheduling import scheduling_of
from gateway.generation.writer import AnswerWriter, Head
from gateway.http.body import read_json
from gateway.http.context import AnyRequest, caller_of, context_of, note_model
from gateway.http.streaming import EventStream, WholeAnswer
from gateway.models.served_model import ServedModel
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.messages.request import Request


@post("/v1/completions", status_code=200)
async def create_completion(request: AnyRequest) -> ASGIApp:
    """Continue one or more texts, as a stream or in one piece."""
    data = await read_json(request, decode_completion, CompletionRequest)
    return await complete(request, data, context_of(request).models.get(data.model), VARIANT)


class Variant(Struct, frozen=True):
    """What differs between the endpoints that continue texts: the form of the answer, how clients
    call the limit of tokens, and what it is without one."""

    new_writer: Callable[[CompletionRequest, Head, Assembler, ServedModel], AnswerWriter]
    limit_param: str = "max_tokens"
    default_tokens: int = DEFAULT_COMPLETION_TOKENS


async def complete(
    request: AnyRequest, data: CompletionRequest, model: ServedModel, variant: Variant
) -> ASGIApp:
    """The response to a request that has been read, whichever endpoint it came to."""
    context = context_of(request)
    note_model(request, data, model)
    check_completion(data)
    scheduling = scheduling_of(data, caller_of(request), model.lora)
    given = completion_prompts(data)
    _check_room(data, len(given), model, context.gpus)
    check_sampling_tokens(data, model.tokenizer.vocab_size)
    prompts = await _prompts(data, given, model)
    head = _head(model)
    requests = completion_requests(
        data,
        prompts,
        scheduling,
        answer_id=head.id,
        max_model_len=model.max_model_len,
        limit_param=variant.limit_param,
        default_tokens=variant.default_tokens,
    )
    assembler = Assembler(
        [request.request_id for request in requests],
        [len(prompt) for prompt in prompts],
        _echoes(data, given, prompts, model) if data.echo else (),
    )
    reserve_tokens(request.scope, assembler, [r.sampling.max_tokens for r in requests])
    writer = variant.new_writer(data, head, assembler, model)
    submit = _submit(data, model, requests)
    if not data.stream:
        return WholeAnswer(submit, assembler, writer, context.metrics)
    return EventStream(
        submit, assembler, writer, context.metrics, context.settings.server.keep_alive_interval
    )


def _check_room(
    data: CompletionRequest, num_prompts: int, model: ServedModel, gpus: GpuMonitor
) -> None:
    if not _needs_no_engine(data):
        gpus.check_memory()
        model.client.check_room(num_prompts * num_candidates(data))


def _needs_no_engine(data: CompletionRequest) -> bool:
    """Whether all that was asked for is an echo that nobody scores."""
    return data.max_tokens == 0 and not scores_prompt(data)


def _submit(
    data: CompletionRequest, model: ServedModel, requests: Sequence[Request]
) -> Callable[[], Deltas]:
    if _needs_no_engine(data):
        return lambda: FinishedDeltas([request.request_id for request in requests])
    return lambda: model.client.submit(requests)


def _writer(
    data: CompletionRequest, head: Head, assembler: Assembler, model: ServedModel
) -> AnswerWriter:
    tokenizer = model.tokenizer
    options = data.stream_options or StreamOptions()
    writer = CompletionWriter(
        head,
        include_usage=bool(options.include_usage),
        usage_so_far=assembler.usage_so_far if options.continuous_usage_stats else None,
        new_logprobs=(
            None if data.logprobs is None else lambda: CompletionLogprobsWriter(tokenizer)
        ),
    )
    n, best_of = num_choices(data), num_candidates(data)
    return writer if n == best_of else BestOf(writer, n=n, best_of=best_of)


VARIANT = Variant(_writer)


async def _prompts(
    data: CompletionRequest, given: list[str] | list[list[int]], model: ServedModel
) -> list[list[int]]:
    if data.suffix:
        return await _fim_prompts(data, data.suffix, given, model)
    prompts = await _token_lists(given, model, is_whole=True)
    asked = DEFAULT_COMPLETION_TOKENS if data.max_tokens is None else data.max_tokens
    room = model.max_model_len - max(asked, 1)
    return [truncate(prompt, data.truncate_prompt_tokens, room) for prompt in prompts]


async def _fim_prompts(
    data: CompletionRequest, suffix: str, given: list[str] | list[list[int]], model: ServedModel
) -> list[list[int]]:
    """Texts are taken literally: a file may well contain what looks like a control token."""
    fim = check_fim(data, model.tokenizer.fim_tokens)
    before = await _token_lists(given, model, is_whole=False)
    [after] = await model.encode([suffix], add_special=False, parse_special=False)
    [empty] = await model.encode([""], add_special=True)
    bos = model.tokenizer.bos_token_id
    first = [bos] if bos is not None and empty[:1] == [bos] else []
    return [fim_prompt(prompt, after, fim, first) for prompt in before]


async def _token_lists(
    given: list[str] | list[list[int]], model: ServedModel, *, is_whole: bool
) -> list[list[int]]:
    """Token ids, checked; a text that is the whole prompt has what stands around one."""
    token_lists = [item for item in given if isinstance(item, list)]
    if token_lists:
        check_token_ids(token_lists, model.tokenizer.vocab_size)
        return token_lists
    texts = [item for item in given if isinstance(item, str)]
    encoded = await model.encode(texts, add_special=is_whole, parse_special=is_whole)
    if not is_whole:
        return encoded
    return [prompt or empty_prompt(model.tokenizer.bos_token_id) for prompt in encoded]


def _echoes(
    data: CompletionRequest,
    given: list[str] | list[list[int]],
    prompts: list[list[int]],
    model: ServedModel,
) -> list[Echo]:
    """The prompts as they came. Scored or shortened ones are the text of their tokens, so that
    `text_offset` fits."""
    if data.logprobs is not None or data.truncate_prompt_tokens is not None:
        return [Echo(model.decode(prompt), prompt) for prompt in prompts]
    return [Echo(item if isinstance(item, str) else model.decode(item)) for item in given]


def _head(model: ServedModel) -> Head:
    return Head(
        id=f"cmpl-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=model.name,
        system_fingerprint=model.system_fingerprint,
    )
