"""POST /generate: continues a text, with a handful of parameters. It is this server's own."""

import secrets
from collections.abc import Sequence

import msgspec
from litestar import post
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.api.openai.fields.undeclared import UndeclaredFields
from gateway.api.openai.protocol.params import (
    MaxTokens,
    Seed,
    StopString,
    StopStrings,
    Temperature,
    TopK,
    TopP,
)
from gateway.api.openai.translate.sampling import stop_strings, token_limit
from gateway.chat.finish import FinishReason
from gateway.generation.events import Answer, AnswerEnd, ChoiceEnd, Event, TextDelta, Usage
from gateway.generation.job import Job, TextPrompts, TokenLimit
from gateway.generation.scheduling import Caller, SchedulingWish, scheduling_of
from gateway.generation.writer import AnswerWriter, Head, encode, new_head
from gateway.http.body import JSONBody
from gateway.http.context import AnyRequest, CurrentContext, caller_of, served_model
from gateway.http.route_facts import ENGINE_ERRORS, facts
from gateway.http.streaming import respond
from runtime.messages.request import SamplingParams

DEFAULT_NEW_TOKENS = 128


class GenerateRequest(Struct, kw_only=True):
    """The body of POST /generate. Without `max_new_tokens` an answer has at most 128 tokens.
    Without `model` the server's own model answers."""

    prompt: str
    model: str | None = None
    max_new_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    seed: Seed | None = None
    stop: StopString | StopStrings | None = None
    stream: bool | None = None


class Generation(Struct, frozen=True, kw_only=True):
    """The answer of POST /generate: the text that follows the prompt."""

    id: str
    model: str
    text: str
    finish_reason: FinishReason
    usage: Usage


class GenerationChunk(Struct, frozen=True):
    """An event of a stream with more text. The last event has the finish reason and the usage."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


_FIELDS = UndeclaredFields(GenerateRequest, {}, is_closed=True)
_BODY = JSONBody(GenerateRequest, msgspec.json.Decoder(GenerateRequest).decode, _FIELDS.settle)


FACTS = facts(
    operation="text_completion",
    body=GenerateRequest,
    answer=Generation,
    event=GenerationChunk,
    errors=ENGINE_ERRORS,
)


@post("/generate", status_code=200, opt=FACTS)
async def generate(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Continue a text, as a stream or in one piece."""
    data = await _BODY.read(request)
    model = await served_model(context, request, data)
    job = generate_job(
        data, f"cmpl-{secrets.token_hex(16)}", caller_of(context, request), model.lora
    )
    return await respond(
        context, request, job, model, lambda _: GenerateWriter(new_head(job.id, model))
    )


def generate_job(data: GenerateRequest, job_id: str, caller: Caller, lora: str = "") -> Job:
    """The job of a text to continue. `lora` is the adapter that the model's name stands for; "" is
    no adapter."""
    return Job(
        id=job_id,
        prompt=TextPrompts(prompts=[data.prompt]),
        sampling=_sampling(data),
        limit=TokenLimit(
            num_tokens=token_limit(data.max_new_tokens, "max_new_tokens"),
            default=DEFAULT_NEW_TOKENS,
        ),
        scheduling=scheduling_of(SchedulingWish(), caller, lora),
        seed=data.seed,
        is_streamed=bool(data.stream),
    )


def _sampling(data: GenerateRequest) -> SamplingParams:
    return SamplingParams(
        max_tokens=0,
        temperature=1.0 if data.temperature is None else data.temperature,
        top_p=1.0 if data.top_p is None else data.top_p,
        top_k=max(data.top_k or 0, 0),  # -1 means the same as 0: off
        stop=stop_strings(data.stop),
    )


class GenerateWriter(AnswerWriter):
    """Writes answers of /generate, which have one choice."""

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
