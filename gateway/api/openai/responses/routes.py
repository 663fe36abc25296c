"""POST /v1/responses and the routes below it."""

import secrets

from litestar import post
from litestar.types import ASGIApp

from gateway.api.openai.bodies import RESPONSE_BODY
from gateway.api.openai.conversations.in_responses import open_conversation
from gateway.api.openai.responses.answers import InputTokens, Response, ResponseEvent
from gateway.api.openai.responses.background.begin import begin, run_behind
from gateway.api.openai.responses.compaction.management import compacting
from gateway.api.openai.responses.protocol import ResponseRequest, tools_of
from gateway.api.openai.responses.schema_notes import PARTS, note_responses
from gateway.api.openai.responses.stored.memory import earlier_items, keeper_of, keeping
from gateway.api.openai.responses.translate import (
    response_job,
    scheduling_wish,
)
from gateway.api.openai.responses.unsupported import check_supported
from gateway.api.openai.responses.writer import ResponseWriter, broken_stream, new_response
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.chat.conversation import Conversation
from gateway.generation.prepare import prepare_chat, unused_params
from gateway.generation.requests import check_sampling_tokens
from gateway.generation.run import AnswerRun
from gateway.generation.scheduling import served_tier
from gateway.generation.writer import AnswerWriter, encode, new_head
from gateway.http.body import apart, work_for
from gateway.http.context import AnyRequest, CurrentContext, caller_of, model_of, served_model
from gateway.http.json_response import JSONBytes
from gateway.http.loading.wait import until_loaded
from gateway.http.route_facts import BODY_ERRORS, ENGINE_ERRORS, facts
from gateway.http.streaming import respond
from gateway.observability.reports.dropped_items import report_dropped
from gateway.observability.reports.ignored_parameters import note_ignored
from gateway.observability.request_record import RequestRecord

RESPONSE_FACTS = facts(
    operation="chat",
    body=ResponseRequest,
    answer=Response,
    event=ResponseEvent,
    broken_stream=broken_stream,
    errors=ENGINE_ERRORS,
    parts=PARTS,
    describe=note_responses,
)
INPUT_TOKENS_FACTS = facts(
    body=ResponseRequest,
    answer=InputTokens,
    errors=BODY_ERRORS,
    parts=PARTS,
    describe=note_responses,
)


@post("/v1/responses", status_code=200, opt=RESPONSE_FACTS)
async def create_response(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Answer a conversation in the form of OpenAI's Responses API, as a stream or in one piece. The
    response is stored when it is over, unless the request or the settings say otherwise."""
    data = await RESPONSE_BODY.read(request)
    model = await served_model(context, request, data)
    check_supported(data)
    conversation = await open_conversation(context, request, data)
    earlier = await earlier_items(context, request, data.previous_response_id, conversation)
    tools = await apart(request, tools_of, data)
    run = run_behind(request)
    job_id = f"resp_{secrets.token_hex(16)}" if run is None else run.id
    caller = caller_of(context, request)
    job = await apart(request, response_job, data, tools, job_id, caller, model.lora, earlier)
    keeper = keeper_of(context, request, data)
    head = new_head(job.id, model, served_tier(scheduling_wish(data), job.scheduling))
    functions = list(tools.functions.values())
    response = new_response(
        data, functions, head, is_stored=keeper is not None, truncation=model.truncation
    )
    if data.background and run is None:
        return await begin(context, request, data, response)

    compact = compacting(context, request, data, model)

    def new_writer(_: AnswerRun) -> AnswerWriter:
        compaction = None if compact is None else compact.done
        has_logprobs = job.sampling.logprobs is not None
        logprobs = ChatLogprobsWriter(model.tokenizer) if has_logprobs else None
        if run is not None:
            return run.new_writer(response, logprobs, conversation, compaction)
        on_end = keeping(keeper, conversation)
        return ResponseWriter(response, logprobs, on_end, compaction=compaction)

    return await respond(context, request, job, model, new_writer, compact)


@post("/v1/responses/input_tokens", status_code=200, opt=INPUT_TOKENS_FACTS)
async def count_input_tokens(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Count the tokens of the prompt of a response. No engine is needed. What a response
    refuses before it needs one is refused here too."""
    data = await RESPONSE_BODY.read(request)
    check_supported(data)
    model = await model_of(context, request, data.model)
    await until_loaded(request)
    caller = caller_of(context, request)
    conversation = await open_conversation(context, request, data)
    earlier = await earlier_items(context, request, data.previous_response_id, conversation)
    tools = await apart(request, tools_of, data)
    job = await apart(request, response_job, data, tools, "", caller, model.lora, earlier)
    note_ignored(request.scope, {**job.ignored, **unused_params(job, model)})
    check_sampling_tokens(job.sampling, model.tokenizer.vocab_size)
    assert isinstance(job.prompt, Conversation), "a response is a chat"
    prepared = await prepare_chat(job.prompt, job, model, work_for(request), most=None)
    report_dropped(prepared.num_dropped, RequestRecord.of(request.scope))
    return JSONBytes(encode(InputTokens(input_tokens=len(prepared.token_ids[0]))))
