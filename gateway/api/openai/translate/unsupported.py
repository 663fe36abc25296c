"""The fields that are not honoured. Pure.

A field of a request is honoured, or harmless, or refused by name. Unknown fields are ignored, and
the log names each once (`gateway.http.body`).
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from runtime.errors import InvalidRequest

HARMLESS: Mapping[str, str] = {
    "user": "names the end user, who takes a fair share of the engine",
    "safety_identifier": "names the end user, and wins over `user`",
    "metadata": "labels for stored answers; nothing is stored",
    "store": "keeps the answer for later; the answer is the same",
    "service_tier": "how soon, not what; the answer says which tier it had",
    "prompt_cache_key": "hint for the prompt cache, which finds prefixes by itself",
    "prompt_cache_options": "hint for the prompt cache",
    "prompt_cache_retention": "hint for the prompt cache",
    "prediction": "a guess at the answer, to have it sooner",
}
"""Accepted without effect on what is said: the answer is the same with and without."""

NOT_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "verbosity": ("medium",),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "moderation": (),
}
"""OpenAI's fields that are refused unless null or one of these values, which ask for nothing."""

NOT_SUPPORTED_EXTENSIONS: Mapping[str, tuple[Any, ...]] = {
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "best_of": (1,),
    "chat_template": (),
    "documents": ([],),
    "dry_multiplier": (0,),
    "echo": (False,),
    "grammar": ("",),
    "guided_whitespace_pattern": (),
    "json_schema": (),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "mirostat": (0,),
    "prompt_embeds": ([],),
    "prompt_logprobs": (),
    "reasoning_budget_tokens": (-1,),
    "reasoning_effort": (),
    "repeat_penalty": (1,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_regex": ([], ""),
    "thinking_budget": (),
    "thinking_token_budget": (),
    "typical_p": (1,),
    "use_beam_search": (False,),
    "xtc_probability": (0,),
}
"""Fields of other servers that would change the answer: the same rule, so that none of them is
dropped without a word. An endpoint that honours one of these names declares it."""


def check_supported(data: Struct) -> None:
    """Raises InvalidRequest for declared fields that ask for something that this server does not
    do."""
    for name, neutral in NOT_SUPPORTED.items():
        value = getattr(data, name, None)
        if value is not None and value not in neutral:
            refuse_parameter(name)


def check_extensions(unknown: Mapping[str, msgspec.Raw]) -> None:
    """Raises InvalidRequest for undeclared fields that would change the answer on other servers."""
    for name in unknown.keys() & NOT_SUPPORTED_EXTENSIONS.keys():
        value = msgspec.json.decode(unknown[name])
        if value is not None and value not in NOT_SUPPORTED_EXTENSIONS[name]:
            refuse_parameter(name)


def refuse_parameter(name: str) -> NoReturn:
    """Raises InvalidRequest for a parameter that this server does not have at all."""
    raise InvalidRequest(
        f"`{name}` is not supported by this server. Leave it out.",
        param=name,
        code="unsupported_parameter",
    )
