"""POST /v1/chat/completions."""

import secrets
import time
from collections.abc import Callable

from litestar import post
from litestar.types import ASGIApp

from gateway.admission.guard import reserve_tokens
from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    StreamOptions,
    decode_chat_completion,
)
from gateway.api.openai.translate.checks import check_chat, num_choices
from gateway.api.openai.translate.sampling import check_sampling_tokens
from gateway.api.openai.translate.tool_choice import find_tool_use
from gateway.api.openai.writers.chat import ChatWriter
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.generation.assembler import Assembler
from gateway.generation.parsers import find_calls, find_reading
from gateway.generation.prepare import (
    prepare_prompt,
)
from gateway.generation.requests import chat_requests
from gateway.generation.scheduling import scheduling_of, served_tier
from gateway.generation.writer import AnswerWriter, Head
from gateway.http.body import read_json
from gateway.http.context import AnyRequest, caller_of, context_of, served_model
from gateway.http.streaming import EventStream, WholeAnswer
from gateway.models.served_model import ServedModel


@post("/v1/chat/completions", status_code=200)
async def create_chat_completion(request: AnyRequest) -> ASGIApp:
    """Answer a conversation, as a stream or in one piece."""
    data = await read_json(request, decode_chat_completion, ChatCompletionRequest)
    return await answer_chat(request, data, _writer, id_prefix="chatcmpl-")


NewWriter = Callable[[ChatCompletionRequest, Head, Assembler, ServedModel], AnswerWriter]


async def answer_chat(
    request: AnyRequest, data: ChatCompletionRequest, new_writer: NewWriter, *, id_prefix: str
) -> ASGIApp:
    """The response to a conversation that has been read, in the form of whichever endpoint it came
    to."""
    context = context_of(request)
    model = served_model(request, data)
    check_chat(data)
    caller = caller_of(request)
    scheduling = scheduling_of(data, caller, model.lora)
    context.gpus.check_memory()
    model.client.check_room(num_choices(data))
    check_sampling_tokens(data, model.tokenizer.vocab_size)
    tool_use = find_tool_use(data)
    prompt, thinking = await prepare_prompt(data, model, tool_use)
    calls = find_calls(tool_use, model, data)
    head = _head(model, id_prefix, served_tier(data, caller))
    requests = chat_requests(
        data,
        prompt,
        scheduling,
        answer_id=head.id,
        max_model_len=model.max_model_len,
        calls=calls,
        thinking=thinking,
    )
    assembler = Assembler(
        [request.request_id for request in requests],
        [len(prompt)],
        parsing=find_reading(data, calls, thinking),
    )
    asked = data.max_completion_tokens if data.max_tokens is None else data.max_tokens
    reserve_tokens(request.scope, assembler, [asked] * len(requests))
    writer = new_writer(data, head, assembler, model)
    if not data.stream:
        return WholeAnswer(
            lambda: model.client.submit(requests), assembler, writer, context.metrics
        )
    return EventStream(
        lambda: model.client.submit(requests),
        assembler,
        writer,
        context.metrics,
        context.settings.server.keep_alive_interval,
    )


def _writer(
    data: ChatCompletionRequest, head: Head, assembler: Assembler, model: ServedModel
) -> AnswerWriter:
    options = data.stream_options or StreamOptions()
    return ChatWriter(
        head,
        include_usage=bool(options.include_usage),
        usage_so_far=assembler.usage_so_far if options.continuous_usage_stats else None,
        logprobs=ChatLogprobsWriter(model.tokenizer) if data.logprobs else None,
        legacy_calls=bool(data.functions),
    )


def _head(model: ServedModel, id_prefix: str, service_tier: str | None) -> Head:
    return Head(
        id=f"{id_prefix}{secrets.token_hex(16)}",
        created=int(time.time()),
        model=model.name,
        system_fingerprint=model.system_fingerprint,
        service_tier=service_tier,
    )
