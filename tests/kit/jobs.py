"""Bodies of requests to jobs, and jobs to the engine's requests, with no server around them."""

from collections.abc import Sequence

import msgspec

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    decode_chat_completion,
    decode_completion,
)
from gateway.api.openai.translate.job import chat_job, completion_job
from gateway.chat.reasoning.plan import PreparedThinking
from gateway.chat.tools.tool_constraint import ToolConstraint
from gateway.generation.job import Job
from gateway.generation.prepare import PreparedPrompts
from gateway.generation.requests import engine_requests
from gateway.generation.scheduling import Caller
from runtime.messages.request import Request

CALLER = Caller(
    arrival_time=1.0,
    unix_time=1_000_000.0,
    key_fingerprint="",
    max_queue_seconds=1.0,
    prefix_caching="shared",
)


def chat(**fields: object) -> ChatCompletionRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return decode_chat_completion(msgspec.json.encode(body))


def completion(**fields: object) -> CompletionRequest:
    return decode_completion(msgspec.json.encode({"model": "m", "prompt": "hi", **fields}))


def chat_requests(
    prompt_length: int = 10,
    *,
    calls: ToolConstraint | None = None,
    thinking: PreparedThinking | None = None,
    **fields: object,
) -> list[Request]:
    """The engine's requests for a chat whose prompt has `prompt_length` tokens, in a context of 100
    tokens."""
    job = chat_job(chat(**fields), "a", CALLER)
    return _requests(job, [[1] * prompt_length], thinking, calls)


def completion_requests(prompts: Sequence[list[int]], **fields: object) -> list[Request]:
    """The engine's requests for a completion whose prompts are these tokens, in a context of 100
    tokens."""
    return _requests(completion_job(completion(**fields), "a", CALLER), prompts)


def _requests(
    job: Job,
    prompts: Sequence[list[int]],
    thinking: PreparedThinking | None = None,
    calls: ToolConstraint | None = None,
) -> list[Request]:
    prepared = PreparedPrompts(token_ids=list(prompts), thinking=thinking)
    return engine_requests(job, prepared, 100, calls)
