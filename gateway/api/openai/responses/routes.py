"""POST /v1/responses and the routes below it."""

import secrets

from litestar import HttpMethod, get, post, route
from litestar.types import ASGIApp

from gateway.api.openai.responses.answers import InputTokens, Response, ResponseEvent
from gateway.api.openai.responses.protocol import (
    InputTokensRequest,
    ResponseRequest,
    decode_input_tokens,
    decode_response_request,
    tools_of,
)
from gateway.api.openai.responses.schema_notes import (
    PARTS,
    note_input_tokens,
    note_responses,
)
from gateway.api.openai.responses.translate import (
    conversation_of,
    reasoning_wish,
    response_job,
    scheduling_wish,
    structured_output,
)
from gateway.api.openai.responses.unsupported import check_supported
from gateway.api.openai.responses.writer import ResponseWriter, new_response
from gateway.api.openai.translate.unsupported import check_extensions
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.chat.conversation import Conversation
from gateway.errors import NotStored
from gateway.generation.prepare import prepare_conversation
from gateway.generation.run import AnswerRun
from gateway.generation.scheduling import served_tier
from gateway.generation.writer import AnswerWriter, encode, new_head
from gateway.http.body import JSONBody, apart, work_for
from gateway.http.context import AnyRequest, CurrentContext, caller_of, model_of, served_model
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import BODY_ERRORS, ENGINE_ERRORS, facts
from gateway.http.streaming import respond

_RESPONSE = JSONBody(ResponseRequest, decode_response_request, check_extensions)
_INPUT_TOKENS = JSONBody(InputTokensRequest, decode_input_tokens, check_extensions)


RESPONSE_FACTS = facts(
    operation="chat",
    body=ResponseRequest,
    answer=Response,
    event=ResponseEvent,
    errors=ENGINE_ERRORS,
    parts=PARTS,
    describe=note_responses,
)
INPUT_TOKENS_FACTS = facts(
    body=InputTokensRequest,
    answer=InputTokens,
    errors=BODY_ERRORS,
    parts=PARTS,
    describe=note_input_tokens,
)


@post("/v1/responses", status_code=200, opt=RESPONSE_FACTS)
async def create_response(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Answer a conversation in the form of OpenAI's Responses API, as a stream or in one piece.
    Nothing is stored."""
    data = await _RESPONSE.read(request)
    model = served_model(context, request, data)
    check_supported(data)
    tools = await apart(request, tools_of, data)
    job_id = f"resp_{secrets.token_hex(16)}"
    caller = caller_of(context, request)
    job = await apart(request, response_job, data, tools, job_id, caller, model.lora)

    def new_writer(run: AnswerRun) -> AnswerWriter:
        head = new_head(job.id, model, served_tier(scheduling_wish(data), job.scheduling))
        has_logprobs = job.sampling.logprobs is not None
        logprobs = ChatLogprobsWriter(model.tokenizer) if has_logprobs else None
        return ResponseWriter(new_response(data, tools, head), logprobs)

    return await respond(context, request, job, model, new_writer)


@post("/v1/responses/input_tokens", status_code=200, opt=INPUT_TOKENS_FACTS)
async def count_input_tokens(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Count the tokens of the prompt of a response. No engine is needed."""
    data = await _INPUT_TOKENS.read(request)
    check_supported(data)
    model = model_of(context, data.model)
    conversation = await apart(request, _conversation, data)
    prompt, _ = await prepare_conversation(conversation, model, work_for(request))
    return JSONBytes(encode(InputTokens(input_tokens=len(prompt))))


def _conversation(data: InputTokensRequest) -> Conversation:
    structured_output(data)  # refuses what a response would refuse
    return conversation_of(data, tools_of(data), reasoning_wish(data))


@route(
    "/v1/responses/{response_id:str}",
    http_method=[HttpMethod.GET, HttpMethod.DELETE],
    status_code=200,
    sync_to_thread=False,
    opt=facts(errors=(404,)),
)
def stored_response(request: AnyRequest) -> None:
    """A 404: responses are not stored."""
    raise NotStored(str(request.path_params["response_id"]))


@get(
    "/v1/responses/{response_id:str}/input_items",
    sync_to_thread=False,
    opt=facts(errors=(404,)),
)
def stored_input_items(request: AnyRequest) -> None:
    """A 404: responses are not stored."""
    raise NotStored(str(request.path_params["response_id"]))


@post(
    "/v1/responses/{response_id:str}/cancel",
    status_code=200,
    sync_to_thread=False,
    opt=facts(errors=(404, 503)),
)
def cancel_response(request: AnyRequest) -> None:
    """A 404: there are no responses in the background. To end a response, close its connection."""
    raise NotStored(str(request.path_params["response_id"]))
