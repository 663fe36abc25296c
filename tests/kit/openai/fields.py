"""Every request field of OpenAI's document (2.3.0), and of other servers, with its fate here.

`value` asks for something; `neutral` are values that ask for nothing. What is honoured shows in
the `request` that the engine gets, or in the `answer`; or in that and the `refusal` of the scripted
engine, which has no model to guide; or in the answer of a model that thinks (`thought`), and
others refuse it. `beside` are fields that it makes sense with.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Fate = Literal["honoured", "harmless", "refused"]


class Field(NamedTuple):
    fate: Fate
    value: Any
    shows_in: Literal["request", "answer", "refusal", "thought"] = "request"
    beside: Mapping[str, Any] = {}
    neutral: tuple[Any, ...] = ()


def honoured(value: Any, *, beside: Mapping[str, Any] | None = None) -> Field:
    return Field("honoured", value, beside=beside or {})


def shown(value: Any, *, beside: Mapping[str, Any] | None = None) -> Field:
    return Field("honoured", value, "answer", beside or {})


def guided(value: Any) -> Field:
    return Field("honoured", value, "refusal")


def thought(value: Any, *neutral: Any) -> Field:
    return Field("honoured", value, "thought", neutral=neutral)


def harmless(value: Any) -> Field:
    return Field("harmless", value)


def refused(value: Any, *neutral: Any) -> Field:
    return Field("refused", value, neutral=neutral)


_TOOL = {"type": "function", "function": {"name": "f"}}

SAMPLING: Mapping[str, Field] = {
    "temperature": honoured(0.5),
    "top_p": honoured(0.5),
    "n": shown(2),
    "stop": shown("fox"),
    "seed": honoured(7),
    "presence_penalty": honoured(1),
    "frequency_penalty": honoured(1),
    "logit_bias": shown({"102": -100}),
    "stream": shown(True),
    "stream_options": shown({"include_usage": True}, beside={"stream": True}),
    "max_tokens": shown(7),
    "user": harmless("ann"),
}
"""In both endpoints."""

CHAT: Mapping[str, Field] = {
    **SAMPLING,
    "messages": shown([{"role": "user", "content": "something else"}]),
    "model": Field("honoured", None),
    "max_completion_tokens": shown(7, beside={"max_tokens": None}),
    "logprobs": shown(True),
    "top_logprobs": shown(3, beside={"logprobs": True}),
    "service_tier": shown("flex"),
    "metadata": harmless({"a": "b"}),
    "store": harmless(True),
    "safety_identifier": harmless("ann"),
    "prompt_cache_key": harmless("k"),
    "prompt_cache_options": harmless({"ttl": "1h"}),
    "prompt_cache_retention": harmless("24h"),
    "prediction": harmless({"type": "content", "content": "x"}),
    "tools": shown([_TOOL]),
    "tool_choice": shown("none", beside={"tools": [_TOOL]}),
    "parallel_tool_calls": honoured(False, beside={"tools": [_TOOL]}),
    "functions": shown([{"name": "f"}]),
    "function_call": shown("none", beside={"functions": [{"name": "f"}]}),
    "audio": refused({"voice": "v", "format": "wav"}),
    "modalities": refused(["text", "audio"], ["text"]),
    "moderation": refused({"model": "m"}),
    "verbosity": harmless("low"),
    "web_search_options": refused({}),
    "reasoning_effort": thought("minimal", "none"),
    "return_tokens_as_token_ids": shown(True, beside={"logprobs": True}),
}

COMPLETION: Mapping[str, Field] = {
    **SAMPLING,
    "model": Field("honoured", None),
    "prompt": shown("something else"),
    "best_of": shown(3),
    "echo": shown(True),
    "logprobs": shown(2),
    "suffix": shown(" the end"),
    "return_tokens_as_token_ids": shown(True, beside={"logprobs": 2}),
}

EXTENSIONS: Mapping[str, Field] = {
    "top_k": honoured(5),
    "min_p": honoured(0.1),
    "repetition_penalty": honoured(1.2),
    "min_tokens": honoured(5),
    "stop_token_ids": shown([102]),
    "ignore_eos": honoured(True),
    "include_stop_str_in_output": shown(True, beside={"stop": "fox"}),
    "truncate_prompt_tokens": shown(1),
    "return_token_ids": shown(True),
    "prompt_logprobs": shown(1),
    "priority": harmless("batch"),
    "deadline": harmless(4e9),
    "cache_salt": harmless("s"),
    "response_format": guided({"type": "json_object"}),
    "structured_outputs": guided({"choice": ["yes", "no"]}),
    "guided_json": guided({"type": "object"}),
    "guided_regex": guided("[ab]+"),
    "guided_choice": guided(["yes", "no"]),
    "guided_grammar": guided('start: "x"'),
}
"""Not OpenAI's, in both endpoints."""

CHAT_EXTENSIONS: Mapping[str, Field] = {
    **EXTENSIONS,
    "add_generation_prompt": shown(False),
    "continue_final_message": shown(
        True,
        beside={
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "so"},
            ]
        },
    ),
    "chat_template_kwargs": Field("honoured", {"mood": "x"}),
    "thinking_token_budget": thought(5),
    "include_reasoning": thought(False, False, True),
    "enable_thinking": thought(False, False, True),
}
