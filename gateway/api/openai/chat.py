"""POST /v1/chat/completions."""

import secrets

from litestar import post
from litestar.types import ASGIApp

from gateway.api.openai.bodies import CHAT_BODY
from gateway.api.openai.protocol.answers import ChatCompletion
from gateway.api.openai.protocol.chunks import ChatCompletionChunk
from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    StreamOptions,
)
from gateway.api.openai.schema_notes import note_fields
from gateway.api.openai.stored_chats.memory import keeper_of
from gateway.api.openai.stored_chats.writer import KeptAnswer
from gateway.api.openai.translate.job import chat_job, chat_wish
from gateway.api.openai.writers.chat import ChatWriter
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.api.openai.writers.token_report import token_report
from gateway.generation.run import AnswerRun
from gateway.generation.scheduling import served_tier
from gateway.generation.writer import AnswerWriter, new_head
from gateway.http.body import apart
from gateway.http.context import AnyRequest, CurrentContext, caller_of, served_model
from gateway.http.route_facts import ENGINE_ERRORS, facts
from gateway.http.streaming import respond
from gateway.models.served_model import ServedModel

FACTS = facts(
    operation="chat",
    body=ChatCompletionRequest,
    answer=ChatCompletion,
    event=ChatCompletionChunk,
    errors=ENGINE_ERRORS,
    describe=note_fields(ChatCompletionRequest),
)


@post("/v1/chat/completions", status_code=200, opt=FACTS)
async def create_chat_completion(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Answer a conversation, as a stream or in one piece. The completion is stored when it is over,
    if the request or the settings say so."""
    data = await CHAT_BODY.read(request)
    model = await served_model(context, request, data)
    job_id = f"chatcmpl-{secrets.token_hex(16)}"
    job = await apart(request, chat_job, data, job_id, caller_of(context, request), model.lora)
    keeper = await keeper_of(context, request, data)

    def new_writer(run: AnswerRun) -> AnswerWriter:
        options = data.stream_options or StreamOptions()
        head = new_head(job.id, model, served_tier(chat_wish(data), job.scheduling))
        writer = ChatWriter(
            head,
            include_usage=bool(options.include_usage),
            usage_so_far=run.usage_so_far if options.continuous_usage_stats else None,
            logprobs=_logprobs_writer(data, model) if data.logprobs else None,
            legacy_calls=bool(data.functions),
            must_call=job.must_call,
            report=token_report(data, run, model),
        )
        return writer if keeper is None else KeptAnswer(writer, head, run.result, keeper)

    return await respond(context, request, job, model, new_writer)


def _logprobs_writer(data: ChatCompletionRequest, model: ServedModel) -> ChatLogprobsWriter:
    return ChatLogprobsWriter(model.tokenizer, as_token_ids=bool(data.return_tokens_as_token_ids))
