"""Structured outputs in the form in which the package's guided decoding takes them."""

import json
from typing import Any

from runtime.engines.tensorrt_llm.setup.package import find_class
from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.structural_tag import legacy_structural_tag

_REGEX_SYNTAX = frozenset(r"\.^$*+?()[]{}|")


def make_guide(wanted: StructuredOutput) -> Any:
    """The package's form of a structured output. Raises InvalidRequest for one that it would take
    for none, or that permits no answer."""
    guide = find_class("GuidedDecodingParams")
    if wanted.json is not None:
        return _json_guide(guide, wanted.json, wanted.source)
    if wanted.regex is not None:
        return guide(regex=_not_empty(wanted.regex, wanted.source))
    if wanted.grammar is not None:
        return guide(grammar=_not_empty(wanted.grammar, wanted.source))
    if wanted.json_object:
        return guide(json_object=True)
    if wanted.structural_tag is not None:
        return guide(structural_tag=legacy_structural_tag(wanted.structural_tag))
    return guide(regex="|".join(f"({_quoted(choice)})" for choice in wanted.choice))


def _json_guide(guide: Any, text: str, source: str) -> Any:
    """The package takes no booleans as schemas, and an empty one for none. Where everything is
    permitted, an object or a list is as good (docs/tensorrt-llm-contract.md, 4.8)."""
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"The JSON schema is not valid JSON: {error}", param=source) from error
    if schema is False:
        raise InvalidRequest(
            "The JSON schema `false` permits no answer; give one that does.", param=source
        )
    permits_all = schema is True or schema == {}
    return guide(json_object=True) if permits_all else guide(json=schema)


def _not_empty(text: str, source: str) -> str:
    if not text:
        raise InvalidRequest(
            f"`{source}` is empty here, which TensorRT-LLM takes for no structure at all: leave it"
            " out, or say what the answer may be.",
            param=source,
        )
    return text


def _quoted(text: str) -> str:
    """`text` as a regular expression that both guided decoding backends read: they know fewer
    escapes than `re.escape` writes."""
    return "".join(f"\\{char}" if char in _REGEX_SYNTAX else char for char in text)
