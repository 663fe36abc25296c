"""The declared fields that are not honoured. Pure.

A field of a request is honoured, or harmless, or refused by name. What becomes of fields that an
endpoint does not declare is in `gateway.api.openai.fields`.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from msgspec import Struct

from runtime.errors import InvalidRequest

NO_VERBOSITY = "no model here has a setting for it: ask for short answers in the messages"

HARMLESS: Mapping[str, str] = {
    "user": "names the end user, who takes a fair share of the engine",
    "safety_identifier": "names the end user, and wins over `user`",
    "metadata": "labels of the stored answer, by which it is found",
    "store": "keeps the answer for later; the answer is the same",
    "service_tier": "how soon, not what; the answer says which tier it had",
    "prompt_cache_key": "hint for the prompt cache, which finds prefixes by itself",
    "prompt_cache_options": "hint for the prompt cache",
    "prompt_cache_retention": "hint for the prompt cache",
    "verbosity": NO_VERBOSITY,
    "prediction": "a guess at the answer, to have it sooner",
}
"""Accepted without effect on what is said: the answer is the same with and without."""

NOT_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "moderation": (),
}
"""OpenAI's fields that are refused unless null or one of these values, which ask for nothing."""


def check_supported(data: Struct) -> None:
    """Raises InvalidRequest for declared fields that ask for something that this server does not
    do."""
    for name, neutral in NOT_SUPPORTED.items():
        value = getattr(data, name, None)
        if value is not None and value not in neutral:
            refuse_parameter(name)


def ignored_verbosity(verbosity: str | None, param: str) -> dict[str, str]:
    """The parameter, with the reason why it has no effect, if it asks for anything."""
    return {} if verbosity in (None, "medium") else {param: NO_VERBOSITY}


def refuse_parameter(name: str) -> NoReturn:
    """Raises InvalidRequest for a parameter that this server does not have at all."""
    raise InvalidRequest(
        f"`{name}` is not supported by this server. Leave it out.",
        param=name,
        code="unsupported_parameter",
    )
