"""Guided decoding. Without a grammar library the double decides on one text that the guide allows,
and lets the model say nothing else."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Protocol

from ..tokenizer import load_tokenizer
from .instance import Unsupported, instance_of_regex, instance_of_schema
from .messages import EngineRequest, WorkerConfig


class GuideError(Exception):
    """The guide cannot be compiled: the request fails, and no other."""


class Guide(Protocol):
    """Which tokens may come next."""

    def allowed(self) -> list[int]: ...

    def push(self, token: int) -> None: ...


class FixedText:
    """Allows the tokens of one text, then `eos_token_id` for ever."""

    def __init__(self, token_ids: list[int], eos_token_id: int) -> None:
        self._left = iter(token_ids)
        self._eos_token_id = eos_token_id
        self._next = next(self._left, eos_token_id)

    def allowed(self) -> list[int]:
        return [self._next]

    def push(self, token: int) -> None:
        self._next = next(self._left, self._eos_token_id)


def make_guide(
    request: EngineRequest, config: WorkerConfig, eos_token_id: int | None
) -> Guide | None:
    """The guide of a request; None, and no word of it, where the engine has no backend for it."""
    if request.guide is None or config.guided_backend is None:
        return None
    kind, value = request.guide
    if kind == "structural_tag" and config.guided_backend != "xgrammar":
        raise GuideError(f"structural_tag is not supported by {config.guided_backend}")
    assert config.tokenizer is not None, "checked when the LLM was made"
    assert eos_token_id is not None, "a model that never ends cannot be guided"
    text = _text(kind, value)
    return FixedText(list(_tokenizer(config.tokenizer).encode(text)), eos_token_id)


def _text(kind: str, value: Any) -> str:
    try:
        return _MAKERS[kind](value)
    except (Unsupported, ValueError, TypeError, re.error) as error:
        raise GuideError(f"Failed to compile the {kind} guide: {error}") from error


def _json(value: Any) -> str:
    schema = json.loads(value) if isinstance(value, str) else value
    return json.dumps(instance_of_schema(schema, schema))


def _grammar(value: str) -> str:
    """Only what is one rule of quoted alternatives; no more is promised."""
    rule = re.fullmatch(r'\s*(?:root|start)\s*(?:::=|:)\s*((?:"[^"]*"\s*\|?\s*)+)', value)
    if rule is None:
        raise Unsupported("the double knows grammars of one rule with quoted alternatives")
    return next(_quoted(rule[1]))


def _quoted(alternatives: str) -> Iterator[str]:
    for match in re.finditer(r'"([^"]*)"', alternatives):
        yield match[1]


def _structural_tag(value: Any) -> str:
    json.loads(value)  # it frees everything outside the tags, so that any text will do
    return "no tag"


_MAKERS = {
    "json": _json,
    "json_object": lambda value: '{"answer": 1}',
    "regex": instance_of_regex,
    "grammar": _grammar,
    "structural_tag": _structural_tag,
}


@cache
def _tokenizer(folder: str) -> Any:
    return load_tokenizer(folder)
