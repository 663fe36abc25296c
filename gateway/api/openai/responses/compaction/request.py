"""The body of POST /v1/responses/compact as a Struct."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Raw

from gateway.api.openai.protocol.params import CacheSalt, ServiceTier, TemplateVariables
from gateway.api.openai.protocol.requests import WorkRequest
from gateway.api.openai.responses.protocol import ResponseRequest


class CompactRequest(WorkRequest, kw_only=True):
    """What is to be summed up. The fields have the meaning that they have in a response; OpenAI
    does not have `truncation` and the fields after it here. The last block is what agents send
    along: it has no effect."""

    input: str | list[Raw] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    service_tier: ServiceTier | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    image: Any = None
    truncation: Literal["auto", "disabled"] | None = None
    safety_identifier: str | None = None
    cache_salt: CacheSalt | None = None
    chat_template_kwargs: TemplateVariables | None = None

    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    reasoning: Any = None
    text: Any = None
    max_output_tokens: Any = None


UNUSED = ("tools", "tool_choice", "parallel_tool_calls", "reasoning", "text", "max_output_tokens")


decode_compact_request = msgspec.json.Decoder(CompactRequest).decode


def unused(data: CompactRequest) -> Mapping[str, str]:
    """The parameters of this request that have no effect, with the reason."""
    sent = [name for name in UNUSED if getattr(data, name) is not None]
    return dict.fromkeys(sent, "a summary is made in the same way each time")


def as_response(data: CompactRequest) -> ResponseRequest:
    """A request for a response to the same conversation."""
    return ResponseRequest(
        model=data.model,
        input=[] if data.input is None else data.input,
        instructions=data.instructions,
        truncation=data.truncation,
        user=data.user,
        priority=data.priority,
        deadline=data.deadline,
        service_tier=data.service_tier,
        safety_identifier=data.safety_identifier,
        cache_salt=data.cache_salt,
        chat_template_kwargs=data.chat_template_kwargs,
    )
