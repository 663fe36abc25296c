"""Guided decoding: which tokens a guide lets through.

The model would fill a free string for ever, so the double has a wish: the smallest text that it
knows to fulfil the guide. llguidance decides what may come, and the wish is taken as far as that
agrees.
"""

import json
import re
from functools import cache
from typing import Any, Protocol

import llguidance
import numpy as np

from ...tokenizer import load_tokenizer
from ..messages import EngineRequest, WorkerConfig
from .instance import Unsupported, instance_of_regex, instance_of_schema


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


class Matched:
    """Allows what llguidance allows: of that the wish, if there is one, and the end if possible."""

    def __init__(self, matcher: Any, eos_token_id: int, wish: FixedText | None) -> None:
        self._matcher = matcher
        self._eos_token_id = eos_token_id
        self._wish = wish

    def allowed(self) -> list[int]:
        if self._matcher.is_stopped():
            return [self._eos_token_id]
        bias = np.frombuffer(self._matcher.compute_logit_bias(), dtype=np.uint8)
        tokens = np.flatnonzero(bias).tolist()
        wanted = [self._eos_token_id] if self._wish is None else self._wish.allowed()
        return wanted if wanted[0] in tokens else tokens

    def push(self, token: int) -> None:
        if self._wish is not None and self._wish.allowed() == [token]:
            self._wish.push(token)
        else:
            self._wish = None
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)


def make_guide(
    request: EngineRequest, config: WorkerConfig, eos_token_id: int | None
) -> Guide | None:
    """The guide of a request; None, and no word of it, where the engine has no backend for it."""
    if request.guide is None or config.guided_backend is None:
        return None
    kind, value = request.guide
    if kind == "structural_tag" and config.guided_backend != "xgrammar":
        raise GuideError(f"structural_tag is not supported by {config.guided_backend}")
    if isinstance(value, bool):
        raise GuideError(f"TypeError: the {kind} guide must be a dict or a str, not bool")
    assert config.tokenizer is not None, "checked when the LLM was made"
    assert eos_token_id is not None, "a model that never ends cannot be guided"
    if kind == "structural_tag":
        return _wish(kind, value, config.tokenizer, eos_token_id)
    matcher = _matcher(kind, value, config.tokenizer, config.vocab_size, eos_token_id)
    try:
        wish = _wish(kind, value, config.tokenizer, eos_token_id)
    except GuideError:  # a valid guide that the double makes no text for
        wish = None
    return Matched(matcher, eos_token_id, wish)


def _wish(kind: str, value: Any, tokenizer: str, eos_token_id: int) -> FixedText:
    try:
        text = _TEXTS[kind](value)
    except (Unsupported, ValueError, TypeError, re.error) as error:
        raise GuideError(f"Failed to compile the {kind} guide: {error}") from error
    return FixedText(list(_tokenizer(tokenizer).encode(text)), eos_token_id)


def _json(value: Any) -> str:
    schema = json.loads(value) if isinstance(value, str) else value
    return json.dumps(instance_of_schema(schema, schema))


def _grammar(value: str) -> str:
    """Only what is one rule of quoted alternatives; no more is promised."""
    rule = re.fullmatch(r'\s*(?:root|start)\s*(?:::=|:)\s*((?:"[^"]*"\s*\|?\s*)+)', value)
    if rule is None:
        raise Unsupported("the double knows grammars of one rule with quoted alternatives")
    return re.findall(r'"([^"]*)"', rule[1])[0]


def _structural_tag(value: Any) -> str:
    """It frees everything outside the tags, so that the first tag alone will do."""
    document = json.loads(value)
    if document.get("type") != "structural_tag":
        raise ValueError("Missing type in structural tag")
    triggers, structures = document["triggers"], document["structures"]
    for structure in structures:
        if not any(structure["begin"].startswith(trigger) for trigger in triggers):
            raise ValueError("One tag does not match any trigger")
    first = structures[0]
    arguments = json.dumps(instance_of_schema(first["schema"], first["schema"]))
    return str(first["begin"] + arguments + first["end"])


_TEXTS = {
    "json": _json,
    "json_object": lambda value: '{"answer": 1}',
    "regex": instance_of_regex,
    "grammar": _grammar,
    "structural_tag": _structural_tag,
}


@cache
def _tokenizer(folder: str) -> Any:
    return load_tokenizer(folder)


def _matcher(kind: str, value: Any, tokenizer: str, vocab_size: int, eos_token_id: int) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    formats = {"json": "json_schema", "regex": "regex", "grammar": "grammar"}
    try:
        if kind == "json_object":
            grammar = llguidance.grammar_from("json_schema", '{"type": "object"}')
        else:
            grammar = llguidance.grammar_from(formats[kind], text)
    except ValueError as error:
        raise GuideError(f"Failed to compile the {kind} guide: {error}") from error
    matcher = llguidance.LLMatcher(_ll_tokenizer(tokenizer, vocab_size, eos_token_id), grammar)
    if matcher.is_error():
        raise GuideError(f"Failed to compile the {kind} guide: {matcher.get_error()}")
    return matcher


@cache
def _ll_tokenizer(folder: str, vocab_size: int, eos_token_id: int) -> Any:
    return llguidance.LLTokenizer(f"{folder}/tokenizer.json", vocab_size, eos_token_id)
