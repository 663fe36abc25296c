"""A text with tool calls as a grammar, in the formats of llguidance and xgrammar."""

import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from runtime.messages.bare_calls import (
    ARGUMENTS,
    after_calls,
    before_calls,
    between_calls,
    call_begin,
    wrapped_call_begin,
)
from runtime.messages.structured_output import StructuralTag, TagStructure
from runtime.structured.tagged_arguments import ArgumentRules, text_rules

_FREE_TEXT = r"/(.|\n)*/"
_BLANKS = r"[ \t\r\n]{0,40}"
_ANY_BLANKS = r"[\s\x1c-\x1f]*"
"""Whitespace within a bare call, and all that a parser accepts as whitespace in the head of one."""

_HEAD = _ANY_BLANKS + before_calls(_ANY_BLANKS) + call_begin(_ANY_BLANKS)
_WRAPPED_HEAD = _ANY_BLANKS + before_calls(_ANY_BLANKS) + wrapped_call_begin(_ANY_BLANKS)
"""The start of an answer with a bare call, up to the function's name."""

_REGEX_SYNTAX = re.compile(r"([\\.^$*+?()\[\]{}|/])")


def lark_grammar(
    tag: StructuralTag, json_options: Callable[[TagStructure | None, Any], Any]
) -> str:
    """The tag as a grammar for llguidance. A lazy lexeme ends the free text as soon as the trigger
    is complete (https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md). `json_options`
    adds llguidance's options to a schema; its first argument is the call that the schema belongs
    to, None for the schema of the content.

    Raises ValueError for a schema that is not JSON.
    """
    return "\n".join(["%llguidance {}", *_start(tag, json_options), *_calls(tag, json_options)])


def is_legacy(tag: StructuralTag) -> bool:
    """Whether `legacy_structural_tag` can express the tag. That format leaves all text outside the
    calls free, looks for calls in the whole answer, and has neither tokens without text nor
    arguments between tags."""
    is_plain = tag.content is None and tag.arguments is None
    return is_plain and not (tag.at_start or tag.must_call or tag.special_tokens)


def legacy_structural_tag(tag: StructuralTag) -> str:
    """The tag in xgrammar's first format, which all its releases read: each structure has its own
    begin and end tag (https://xgrammar.mlc.ai/docs/tutorials/structural_tag.html)."""
    structures = [
        {
            "begin": tag.opening + structure.begin,
            "schema": json.loads(structure.schema),
            "end": structure.end + tag.close,
        }
        for structure in tag.structures
    ]
    document = {"type": "structural_tag", "structures": structures, "triggers": [tag.trigger]}
    return json.dumps(document, ensure_ascii=False)


def _start(
    tag: StructuralTag, json_options: Callable[[TagStructure | None, Any], Any]
) -> list[str]:
    """The rules for the start of an answer, including the trigger."""
    trigger = _terms(tag.trigger, tag)
    if tag.must_call:
        return [f"start: thoughts {trigger} calls", *_thoughts(tag)]
    if tag.content is not None:
        content = json.dumps(json_options(None, json.loads(tag.content)), ensure_ascii=False)
        return [
            f"start: thoughts {trigger} calls | thoughts content",
            f"content: {_terms(tag.answer, tag)} %json {content}",
            *_thoughts(tag),
        ]
    return _free_start(tag, trigger)


def _free_start(tag: StructuralTag, trigger: str) -> list[str]:
    """The rules for free text that may contain tool calls. An answer that starts like a call
    without its opening tag is ambiguous until the function's name: from there it calls a known
    function, or it is text."""
    text, head, rest = _FREE_TEXT, f"/{_HEAD}/", _FREE_TEXT
    before = {"TEXT": ""}
    if tag.bare_calls:
        names = "|".join(re.escape(structure.name) for structure in tag.structures)
        before["REST"] = "(HEAD | WRAPPED_HEAD) "
        text = f"{text} & ~/({_HEAD}|{_WRAPPED_HEAD})(.|\\n)*/"
        rest = f'{rest} & ~/({names})"(.|\\n)*/'
    if tag.at_start:
        at_start = _quoted(tag.trigger)
        text, head = f"{text} & ~/{at_start}(.|\\n)*/", f"{head} & ~/{at_start}/"
    lines = [f"TEXT: {text}"]
    if tag.bare_calls:
        lines += [f"HEAD: {head}", f"WRAPPED_HEAD: /{_WRAPPED_HEAD}/", f"REST: {rest}"]
    ways = [f"{trigger} calls"] if tag.at_start else []
    for lexeme in [] if tag.at_start else before:
        way, rules = _up_to_trigger(lexeme, tag)
        ways.append(f"{before[lexeme]}{way} calls")
        lines += rules
    ways += [f"{heads}{lexeme}" for lexeme, heads in before.items()]
    return [f"start: {' | '.join([*ways, *(['bare'] if tag.bare_calls else [])])}", *lines]


def _up_to_trigger(lexeme: str, tag: StructuralTag) -> tuple[str, list[str]]:
    """The expression for free text followed by the trigger, and the rules that it needs."""
    first, *rest = _term_list(tag.trigger, tag)
    if first.startswith("<["):
        return " ".join([lexeme, first, *rest]), []
    rule = f"{lexeme.lower()}_to_trigger"
    return " ".join([rule, *rest]), [f"{rule}[lazy]: {lexeme} {first}"]


def _thoughts(tag: StructuralTag) -> list[str]:
    if not tag.thought_start:
        return ['thoughts: ""']
    start, (end, *rest) = _terms(tag.thought_start, tag), _term_list(tag.thought_end, tag)
    thought = ["THOUGHT", end]
    lines = ["thoughts: thought*", f"THOUGHT: {_FREE_TEXT}"]
    if not end.startswith("<["):  # plain text, which THOUGHT would swallow
        thought = ["until_end"]
        lines.append(f"until_end[lazy]: THOUGHT {end}")
    return [*lines, f"thought: {' '.join([start, *thought, *rest])}"]


def _calls(
    tag: StructuralTag, json_options: Callable[[TagStructure | None, Any], Any]
) -> list[str]:
    """The rules for the text after the trigger."""
    opening = _terms(tag.opening.removeprefix(tag.trigger), tag)
    more = "" if tag.stop_after_first else f"({_terms(tag.separator, tag)} call)*"
    numbers = range(len(tag.structures))
    lines = [
        f"calls: {opening} call {more} {_terms(tag.close, tag)}",
        f"call: {_either('call_', numbers)}",
    ]
    if tag.arguments is not None:
        lines += text_rules(tag.arguments, partial(_term_list, tag=tag))
    for number, structure in enumerate(tag.structures):
        schema = json_options(structure, json.loads(structure.schema))
        begin, end = _terms(structure.begin, tag), _terms(structure.end, tag)
        lines.append(f"call_{number}: {begin} arguments_{number} {end}")
        lines += _arguments(f"arguments_{number}", structure, schema, tag)
    if tag.bare_calls:
        lines += _bare_calls(tag)
    return lines


def _arguments(name: str, structure: TagStructure, schema: Any, tag: StructuralTag) -> list[str]:
    if tag.arguments is None:
        return [f"{name}: %json {json.dumps(schema, ensure_ascii=False)}"]
    terms = partial(_term_list, tag=tag)
    return ArgumentRules(name, structure, schema, tag.arguments, terms).lines()


def _bare_calls(tag: StructuralTag) -> list[str]:
    """The rules for calls without an opening tag. A closing tag may follow all the same."""
    close = f"AFTER | {_terms(tag.close, tag)}" if tag.close and not tag.at_start else "AFTER"
    more = "" if tag.stop_after_first else "(NEXT named | WRAPPED_NEXT named BARE_END)*"
    between = _BLANKS + between_calls(_BLANKS)
    lines = [
        f"bare: (HEAD named | WRAPPED_HEAD named BARE_END) {more} ({close})?",
        f"named: {_either('named_', range(len(tag.structures)))}",
        f"NEXT: /{between}{call_begin(_BLANKS)}/",
        f"WRAPPED_NEXT: /{between}{wrapped_call_begin(_BLANKS)}/",
        rf'TO_ARGUMENTS: /{_BLANKS},{_BLANKS}"{ARGUMENTS}"{_BLANKS}:{_BLANKS}/',
        rf"BARE_END: /{_BLANKS}\}}/",
        f"AFTER: /{_BLANKS}{after_calls(_BLANKS)}/",
    ]
    for number, structure in enumerate(tag.structures):
        name = json.dumps(f'{structure.name}"')
        lines.append(f"named_{number}: {name} TO_ARGUMENTS arguments_{number} BARE_END")
    return lines


def _either(rule: str, numbers: Iterable[int]) -> str:
    return " | ".join(f"{rule}{number}" for number in numbers)


def _terms(text: str, tag: StructuralTag) -> str:
    """A text as literals, and as token ids for tokens that stand for no text."""
    return " ".join(_term_list(text, tag))


def _term_list(text: str, tag: StructuralTag) -> list[str]:
    special = dict(tag.special_tokens)
    parts = re.split(f"({'|'.join(map(re.escape, special))})", text) if special else [text]
    return [
        f"<[{special[part]}]>" if part in special else json.dumps(part, ensure_ascii=False)
        for part in parts
        if part
    ]


def _quoted(text: str) -> str:
    return _REGEX_SYNTAX.sub(r"\\\1", text)
