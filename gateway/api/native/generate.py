"""POST /generate: a text goes on, with a handful of parameters. This server's own.

The rest is as in /v1/completions, through which every request goes.
"""

from collections.abc import Sequence

import msgspec
from litestar import post
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.api.openai.completions import Variant, complete
from gateway.api.openai.protocol.params import (
    NumNewTokens,
    Seed,
    StopString,
    StopStrings,
    Temperature,
    TopK,
    TopP,
)
from gateway.api.openai.protocol.requests import CompletionRequest
from gateway.chat.finish import FinishReason
from gateway.generation.assembler import Assembler
from gateway.generation.events import Answer, AnswerEnd, ChoiceEnd, Event, TextDelta, Usage
from gateway.generation.writer import AnswerWriter, Head, encode
from gateway.http.body import read_json
from gateway.http.context import AnyRequest, model_of
from gateway.models.served_model import ServedModel

DEFAULT_NEW_TOKENS = 128


class GenerateRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /generate. Without `max_new_tokens` an answer has 128 tokens at most;
    without `model` the server's own answers."""

    prompt: str
    model: str | None = None
    max_new_tokens: NumNewTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    seed: Seed | None = None
    stop: StopString | StopStrings | None = None
    stream: bool | None = None


class Generation(Struct, frozen=True, kw_only=True):
    """The answer of POST /generate: the text that follows on the prompt."""

    id: str
    model: str
    text: str
    finish_reason: FinishReason
    usage: Usage


class GenerationChunk(Struct, frozen=True):
    """An event of a stream: more text. The last one says why it ended, and what it took."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


_decode = msgspec.json.Decoder(GenerateRequest).decode


@post("/generate", status_code=200)
async def generate(request: AnyRequest) -> ASGIApp:
    """Continue a text, as a stream or in one piece."""
    data = await read_json(request, _decode, GenerateRequest)
    model = model_of(request, data.model)
    return await complete(request, _completion(data, model), model, VARIANT)


class GenerateWriter(AnswerWriter):
    """How /generate writes answers, which have one choice."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._finish_reason: FinishReason | None = None

    def frames(self, events: Sequence[Event]) -> bytes:
        return b"".join([self._frame(event) for event in events])

    def whole(self, answer: Answer) -> bytes:
        [choice] = answer.choices
        return encode(
            Generation(
                id=self._head.id,
                model=self._head.model,
                text=choice.text,
                finish_reason=choice.finish_reason,
                usage=answer.usage,
            )
        )

    def _frame(self, event: Event) -> bytes:
        match event:
            case TextDelta(text=text):
                return _event(GenerationChunk(text))
            case ChoiceEnd(finish_reason=reason):
                self._finish_reason = reason
            case AnswerEnd(usage=usage):
                return _event(GenerationChunk("", self._finish_reason, usage))
        return b""


def _event(chunk: GenerationChunk) -> bytes:
    return b"data: " + encode(chunk) + b"\n\n"


def _writer(
    data: CompletionRequest, head: Head, assembler: Assembler, model: ServedModel
) -> AnswerWriter:
    return GenerateWriter(head)


def _completion(data: GenerateRequest, model: ServedModel) -> CompletionRequest:
    return CompletionRequest(
        model=model.name,
        prompt=data.prompt,
        max_tokens=data.max_new_tokens,
        temperature=data.temperature,
        top_p=data.top_p,
        top_k=data.top_k,
        seed=data.seed,
        stop=data.stop,
        stream=data.stream,
    )


VARIANT = Variant(_writer, limit_param="max_new_tokens", default_tokens=DEFAULT_NEW_TOKENS)
