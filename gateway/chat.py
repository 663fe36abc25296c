"""POST /v1/chat/completions."""

import secrets
import time

from litestar import post
from litestar.types import ASGIApp

from gateway.assembler import Assembler
from gateway.body import read_json
from gateway.context import AnyRequest, context_of, origin_of
from gateway.frames import ChatShape, Head
from gateway.logprobs import ChatLogprobsWriter
from gateway.messages import template_messages
from gateway.prompts import truncate
from gateway.protocol import ChatCompletionRequest, StreamOptions, decode_chat_completion
from gateway.reading import find_reading
from gateway.reasoning import PreparedThinking, plan_thinking, prepare_thinking
from gateway.registry import ServedModel
from gateway.sampling import check_sampling_tokens
from gateway.service import served_tier, service_of
from gateway.streaming import EventStream, WholeAnswer
from gateway.translate import chat_requests, check_chat, num_choices


@post("/v1/chat/completions", status_code=200)
async def create_chat_completion(request: AnyRequest) -> ASGIApp:
    """Answer a conversation, as a stream or in one piece."""
    data = await read_json(request, decode_chat_completion, ChatCompletionRequest)
    context = context_of(request)
    model = context.models.get(data.model)
    check_chat(data)
    service = service_of(data, origin_of(request))
    context.gpus.check_memory()
    model.client.check_room(num_choices(data))
    check_sampling_tokens(data, model.tokenizer.vocab_size)
    prompt, thinking = await _prompt(data, model)
    head = _head(data, model)
    requests = chat_requests(
        data,
        prompt,
        service,
        answer_id=head.id,
        max_model_len=model.max_model_len,
        thinking=thinking,
    )
    assembler = Assembler(
        [request.request_id for request in requests],
        [len(prompt)],
        reading=find_reading(data, model, thinking),
    )
    options = data.stream_options or StreamOptions()
    shape = ChatShape(
        head,
        include_usage=bool(options.include_usage),
        usage_so_far=assembler.usage_so_far if options.continuous_usage_stats else None,
        logprobs=ChatLogprobsWriter(model.tokenizer) if data.logprobs else None,
    )
    if not data.stream:
        return WholeAnswer(lambda: model.client.submit(requests), assembler, shape, context.metrics)
    return EventStream(
        lambda: model.client.submit(requests),
        assembler,
        shape,
        context.metrics,
        context.settings.server.keep_alive_interval,
    )


async def _prompt(
    data: ChatCompletionRequest, model: ServedModel
) -> tuple[list[int], PreparedThinking | None]:
    """The prompt's tokens, and how the model thinks behind it."""
    template, reasoner = model.template, model.reasoner
    style = None if reasoner is None else reasoner.style
    plan = plan_thinking(data, style, model.hearing, model.default_thinking_budget)
    messages = template_messages(data.messages, tool_messages=template.shows_tool_messages)
    goes_on = bool(data.continue_final_message)
    text = template.render(
        messages,
        add_generation_prompt=not goes_on and data.add_generation_prompt is not False,
        continue_final_message=goes_on,
        variables=plan.variables,
    )
    (prompt,) = await model.encode([text], add_special=not template.writes_bos(text))
    asked = data.max_completion_tokens if data.max_tokens is None else data.max_tokens
    prompt = truncate(prompt, data.truncate_prompt_tokens, model.max_model_len - (asked or 1))
    if reasoner is None:
        return prompt, None
    return prompt, prepare_thinking(data, reasoner, text, plan.budget)


def _head(data: ChatCompletionRequest, model: ServedModel) -> Head:
    return Head(
        id=f"chatcmpl-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=model.name,
        system_fingerprint=model.system_fingerprint,
        service_tier=served_tier(data),
    )
