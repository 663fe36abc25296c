"""POST /tokenize and /detokenize, as vLLM has them: texts to token ids and back, without an engine.

A conversation becomes exactly the prompt that /v1/chat/completions makes of it.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import post
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from gateway.api.openai.bodies import KINDS
from gateway.api.openai.fields.undeclared import UndeclaredFields
from gateway.api.openai.protocol.messages import Message
from gateway.api.openai.protocol.params import TemplateVariables, TokenId
from gateway.api.openai.protocol.requests import ChatCompletionRequest
from gateway.api.openai.protocol.tools import Tools
from gateway.api.openai.translate.checks import check_chat
from gateway.api.openai.translate.job import conversation_of
from gateway.api.openai.writers.logprobs import shown_token
from gateway.generation.prepare import prepare_conversation, unused_in
from gateway.generation.writer import encode
from gateway.http.body import JSONBody, apart, while_connected, work_for
from gateway.http.context import AnyRequest, CurrentContext, model_of
from gateway.http.json_response import JSONBytes
from gateway.http.loading.wait import until_loaded
from gateway.http.route_facts import BODY_ERRORS, facts
from gateway.models.served_model import ServedModel
from gateway.observability.reports.ignored_parameters import note_ignored
from runtime.errors import InvalidRequest
from runtime.tokenizers.decoding import text_pieces
from runtime.tokenizers.tokenizer import Tokenizer

PIECE = 50_000
"""Items of a list that are written at once, in about a millisecond."""


class TokenizeRequest(Struct, kw_only=True):
    """The body of POST /tokenize: a `prompt` or `messages`. `model` may be absent.

    `add_special_tokens` adds the tokens that the model expects around a prompt, which is the
    default; for messages the chat template writes them. `return_token_strs` asks for the text of
    each token.
    """

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateVariables | None = None
    tools: Tools | None = None


class Tokens(Struct, frozen=True):
    """The answer of POST /tokenize. `max_model_len` is the context in tokens. `token_strs` are null
    unless the request asks for them; a part of a character is shown as `bytes:\\xe2\\x96`."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Struct, kw_only=True):
    """The body of POST /detokenize."""

    tokens: list[TokenId]
    model: str | None = None


class Text(Struct, frozen=True):
    """The answer of POST /detokenize. Control tokens are shown by their names."""

    prompt: str


TOKENIZE_FIELDS = UndeclaredFields(
    TokenizeRequest,
    KINDS,
    weighty=(
        *("enable_thinking", "function_call", "functions", "input", "instructions", "suffix"),
        *("tool_choice", "truncate_prompt_tokens"),
    ),
)
DETOKENIZE_FIELDS = UndeclaredFields(DetokenizeRequest, KINDS, weighty=())

_TOKENIZE = JSONBody(
    TokenizeRequest, msgspec.json.Decoder(TokenizeRequest).decode, TOKENIZE_FIELDS.settle
)
_DETOKENIZE = JSONBody(
    DetokenizeRequest, msgspec.json.Decoder(DetokenizeRequest).decode, DETOKENIZE_FIELDS.settle
)


@post(
    "/tokenize",
    status_code=200,
    opt=facts(body=TokenizeRequest, answer=Tokens, errors=BODY_ERRORS),
)
async def tokenize(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """The token ids of a text or of a conversation, as the model would read it."""
    data = await _TOKENIZE.read(request)
    model = await model_of(context, request, data.model)
    _check_one(data)
    await until_loaded(request)
    token_ids = await while_connected(request, _token_ids(request, data, model))
    return JSONBytes(await apart(request, _tokens, data, token_ids, model))


@post(
    "/detokenize",
    status_code=200,
    opt=facts(body=DetokenizeRequest, answer=Text, errors=BODY_ERRORS),
)
async def detokenize(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """The text of token ids."""
    data = await _DETOKENIZE.read(request)
    model = await model_of(context, request, data.model)
    await until_loaded(request)
    return JSONBytes(await apart(request, _text, model.tokenizer, data.tokens))


def _tokens(data: TokenizeRequest, token_ids: list[int], model: ServedModel) -> bytes:
    """The JSON of the answer to a text or a conversation, as `Tokens` says."""
    answer = {
        "count": len(token_ids),
        "max_model_len": model.max_model_len,
        "tokens": _list_json(token_ids),
        "token_strs": None,
    }
    if data.return_token_strs:
        shown = _ShownTokens(model.tokenizer)
        answer["token_strs"] = _list_json([shown[token_id] for token_id in token_ids])
    return encode(answer)


class _ShownTokens(dict[int, str]):
    """The text of each token that was asked for, which is made once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __missing__(self, token_id: int) -> str:
        shown = self[token_id] = shown_token(self._tokenizer, token_id)
        return shown


def _list_json(items: Sequence[int] | Sequence[str]) -> msgspec.Raw:
    """The JSON of a list, written in pieces: the encoder lets no other thread run meanwhile."""
    starts = range(0, len(items), PIECE)
    pieces = [encode(items[start : start + PIECE])[1:-1] for start in starts] or [b""]
    return msgspec.Raw(b"".join([b"[", b",".join(pieces), b"]"]))


def _check_one(data: TokenizeRequest) -> None:
    if (data.prompt is None) == (data.messages is None):
        raise InvalidRequest("Send either `prompt` or `messages`.", param="prompt")


async def _token_ids(request: AnyRequest, data: TokenizeRequest, model: ServedModel) -> list[int]:
    if data.messages is not None:
        chat = _chat(data, data.messages, model)
        work = work_for(request)
        conversation = await work(conversation_of, chat)
        prompt, _ = await prepare_conversation(conversation, model, work)
        note_ignored(request.scope, unused_in(conversation, model))
        return prompt
    _refuse_beside_prompt(data)
    [token_ids] = await model.encode(
        [data.prompt or ""], add_special=data.add_special_tokens is not False
    )
    return token_ids


def _chat(
    data: TokenizeRequest, messages: list[Message], model: ServedModel
) -> ChatCompletionRequest:
    if data.add_special_tokens:
        raise InvalidRequest(
            "`add_special_tokens` is for `prompt`: a conversation has what its chat template"
            " writes. Leave it out.",
            param="add_special_tokens",
            code="unsupported_parameter",
        )
    chat = ChatCompletionRequest(
        model=model.name,
        messages=messages,
        add_generation_prompt=data.add_generation_prompt,
        continue_final_message=data.continue_final_message,
        chat_template_kwargs=data.chat_template_kwargs,
        tools=data.tools,
    )
    check_chat(chat)
    return chat


def _refuse_beside_prompt(data: TokenizeRequest) -> None:
    for name in (
        "add_generation_prompt",
        "continue_final_message",
        "chat_template_kwargs",
        "tools",
    ):
        if getattr(data, name) is not None:
            raise InvalidRequest(
                f"`{name}` is for `messages`, not for `prompt`. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )


def _text(tokenizer: Tokenizer, token_ids: Sequence[int]) -> bytes:
    """The JSON of the answer to token ids."""
    if token_ids and max(token_ids) >= tokenizer.vocab_size:
        raise InvalidRequest(
            f"`tokens` has an id outside the vocabulary: ids are 0 to {tokenizer.vocab_size - 1}.",
            param="tokens",
        )
    named = zip(token_ids, text_pieces(tokenizer, token_ids), strict=True)
    shown = b"".join(piece or _name(tokenizer, token_id) for token_id, piece in named)
    return encode(Text(shown.decode("utf-8", "replace")))


def _name(tokenizer: Tokenizer, token_id: int) -> bytes:
    """What is shown for a token without text."""
    has_text = tokenizer.token_bytes(token_id)
    return b"" if has_text else tokenizer.token_name(token_id).encode()
