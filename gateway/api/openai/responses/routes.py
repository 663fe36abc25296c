"""POST /v1/responses and what belongs to it. Every request goes through the path of a chat."""

from litestar import HttpMethod, get, post, route
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.api.openai.chat import answer_chat
from gateway.api.openai.protocol.requests import ChatCompletionRequest
from gateway.api.openai.responses.answers import InputTokens
from gateway.api.openai.responses.protocol import (
    InputTokensRequest,
    ResponseRequest,
    decode_input_tokens,
    decode_response_request,
)
from gateway.api.openai.responses.translate import chat_of, own_names, prompt_of
from gateway.api.openai.responses.unsupported import check_supported
from gateway.api.openai.responses.writer import ResponseWriter, new_response
from gateway.api.openai.translate.checks import check_chat
from gateway.api.openai.translate.tool_choice import find_tool_use
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.errors import NotStored
from gateway.generation.assembler import Assembler
from gateway.generation.prepare import prepare_prompt
from gateway.generation.writer import AnswerWriter, Head, encode
from gateway.http.body import read_json
from gateway.http.context import AnyRequest, model_of
from gateway.http.json_response import JSONBytes
from gateway.models.served_model import ServedModel


@post("/v1/responses", status_code=200)
async def create_response(request: AnyRequest) -> ASGIApp:
    """Answer a conversation in the form of OpenAI's Responses API, as a stream or in one piece.
    Nothing is stored."""
    data = await read_json(request, decode_response_request, ResponseRequest)
    check_supported(data)

    def new_writer(
        chat: ChatCompletionRequest, head: Head, assembler: Assembler, model: ServedModel
    ) -> AnswerWriter:
        logprobs = ChatLogprobsWriter(model.tokenizer) if chat.logprobs else None
        return ResponseWriter(new_response(data, head), logprobs)

    with own_names():
        chat = chat_of(data)
        return _InOwnNames(await answer_chat(request, chat, new_writer, id_prefix="resp_"))


@post("/v1/responses/input_tokens", status_code=200)
async def count_input_tokens(request: AnyRequest) -> ASGIApp:
    """How many tokens the prompt of a response has. No engine is needed."""
    data = await read_json(request, decode_input_tokens, InputTokensRequest)
    check_supported(data)
    model = model_of(request, data.model)
    with own_names():
        chat = prompt_of(data, model.name)
        check_chat(chat)
        prompt, _ = await prepare_prompt(chat, model, find_tool_use(chat))
    return JSONBytes(encode(InputTokens(input_tokens=len(prompt))))


@route(
    "/v1/responses/{response_id:str}",
    http_method=[HttpMethod.GET, HttpMethod.DELETE],
    status_code=200,
    sync_to_thread=False,
)
def stored_response(request: AnyRequest) -> None:
    """A 404: responses are not stored."""
    raise NotStored(str(request.path_params["response_id"]))


@get("/v1/responses/{response_id:str}/input_items", sync_to_thread=False)
def stored_input_items(request: AnyRequest) -> None:
    """A 404: responses are not stored."""
    raise NotStored(str(request.path_params["response_id"]))


@post("/v1/responses/{response_id:str}/cancel", status_code=200, sync_to_thread=False)
def cancel_response(request: AnyRequest) -> None:
    """A 404: no response works in the background. To end one, close the connection."""
    raise NotStored(str(request.path_params["response_id"]))


class _InOwnNames:
    """An application whose errors name the fields of a response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with own_names():
            await self._app(scope, receive, send)
