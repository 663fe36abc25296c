"""How a model makes tool calls: the enforced grammar, and the parser. Pure."""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from gateway.chat.finish import FinishReason
from gateway.chat.parsing.pieces import Parser
from gateway.chat.tools.call_loops import LoopGuard
from gateway.chat.tools.calls_only import CallsOnly
from gateway.chat.tools.dialect import CallForm, Dialect
from gateway.chat.tools.dialects.generic import GENERIC
from gateway.chat.tools.tool_use import FunctionSpec, ToolUse
from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuralTag, StructuredOutput, TagStructure
from runtime.messages.tagged_values import moved
from runtime.tokenizers.tokenizer import Tokenizer


class ToolConstraint(Struct, frozen=True):
    """The constraint for the choices of one answer. `shown_token_ids` are the tokens that the
    parser searches for and that have no text. A choice that has called a named function ends with
    `stop`, as with OpenAI. With `parses_reasoning` the parser separates reasoning from content by
    itself."""

    structured_output: StructuredOutput | None
    shown_token_ids: tuple[int, ...]
    new_parser: Callable[[], Parser]
    finish_reason: FinishReason
    parses_reasoning: bool = False


def make_tool_constraint(
    use: ToolUse,
    dialect: Dialect,
    tokenizer: Tokenizer,
    wanted: StructuredOutput | None,
    *,
    has_tags: bool,
) -> ToolConstraint:
    """`wanted` is the structured output for answers without a call. `has_tags` means that the
    engine can enforce texts with calls in them, not only JSON schemas."""
    if use.must_call and (dialect.form is None or not has_tags):
        return _plan(use, GENERIC, {}, _json_calls(use))
    hidden = hidden_tokens(dialect.marks, tokenizer)
    structured = _tagged(use, dialect, hidden, wanted)
    is_strict = any(function.is_strict for function in use.callable)
    if wanted is not None or (is_strict and not has_tags):
        dialect = _without_bare_calls(dialect)
    return _plan(use, dialect, hidden, structured)


def _without_bare_calls(dialect: Dialect) -> Dialect:
    """Treats bare calls as content, because no grammar holds them to their schemas."""
    new_parser = dialect.new_form_parser or dialect.new_parser
    return msgspec.structs.replace(dialect, new_parser=new_parser)


def new_call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def hidden_tokens(marks: Sequence[str], tokenizer: Tokenizer) -> dict[str, int]:
    """The marks that are one token each and have no text."""
    found = {}
    for mark in marks:
        token_ids = tokenizer.encode(mark, add_special=False, parse_special=True)
        if len(token_ids) == 1 and not tokenizer.token_bytes(token_ids[0]):
            found[mark] = token_ids[0]
    return found


def _plan(
    use: ToolUse, dialect: Dialect, hidden: Mapping[str, int], wanted: StructuredOutput | None
) -> ToolConstraint:
    max_calls = None if use.parallel else 1
    new_parser: Callable[[], Parser] = partial(
        dialect.new_parser, use.schemas, new_call_id, max_calls
    )
    new_parser = partial(_guarded, new_parser)
    if use.must_call:
        new_parser = partial(_calls_only, new_parser)
    reason: FinishReason = "tool_calls"
    if use.mode == "named":
        reason = "stop"
    elif use.legacy:
        reason = "function_call"
    return ToolConstraint(
        wanted, tuple(hidden.values()), new_parser, reason, dialect.parses_reasoning
    )


def _guarded(new_parser: Callable[[], Parser]) -> Parser:
    return LoopGuard(new_parser())


def _calls_only(new_parser: Callable[[], Parser]) -> Parser:
    return CallsOnly(new_parser())


def _tagged(
    use: ToolUse,
    dialect: Dialect,
    hidden: Mapping[str, int],
    wanted: StructuredOutput | None,
) -> StructuredOutput | None:
    """Calls in the model's dialect, among free text or instead of it."""
    form = dialect.form
    if form is None:
        _check_free(use, wanted)
        return None
    structures = tuple(
        TagStructure(
            form.begin(function.name),
            function.arguments.closed_text,
            form.end,
            function.is_strict,
            function.source,
            function.name,
        )
        for function in use.callable
    )
    comes_first = use.must_call or wanted is not None or any(mark in form.before for mark in hidden)
    before = form.before if comes_first else ""
    tag = StructuralTag(
        trigger=before + form.trigger,
        opening=before + form.opening,
        separator=form.separator,
        close=form.close,
        structures=structures,
        at_start=form.at_start,
        must_call=use.must_call,
        stop_after_first=not use.parallel,
        content=None if use.must_call else _content(wanted),
        bare_calls=dialect.new_form_parser is not None and not use.must_call and wanted is None,
        arguments=form.arguments,
    )
    if use.must_call or wanted is not None:
        tag = _with_thoughts(tag, form)
    tag = msgspec.structs.replace(tag, special_tokens=_special_tokens(tag, hidden))
    is_strict = wanted is not None and wanted.is_strict
    return StructuredOutput(structural_tag=tag, source=_source(use, wanted), is_strict=is_strict)


def _with_thoughts(tag: StructuralTag, form: CallForm) -> StructuralTag:
    return msgspec.structs.replace(
        tag, answer=form.answer, thought_start=form.thought_start, thought_end=form.thought_end
    )


def _special_tokens(tag: StructuralTag, hidden: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The tokens without text that occur in the tag's texts."""
    calls = (structure.begin + structure.end for structure in tag.structures)
    around = (tag.opening, tag.separator, tag.close, tag.answer, tag.thought_start, tag.thought_end)
    tags = () if tag.arguments is None else msgspec.structs.astuple(tag.arguments)
    texts = (*around, *calls, *tags)
    return tuple(
        (mark, token_id) for mark, token_id in hidden.items() if any(mark in t for t in texts)
    )


def _source(use: ToolUse, wanted: StructuredOutput | None) -> str:
    """The request parameter that requires the structured output."""
    if use.must_call:
        return "function_call" if use.legacy else "tool_choice"
    if wanted is not None:
        return wanted.source
    return "functions" if use.legacy else "tools"


def _content(wanted: StructuredOutput | None) -> str | None:
    if wanted is None:
        return None
    if wanted.json_object:
        return '{"type": "object"}'
    if wanted.json is None:
        raise InvalidRequest(
            f"`{wanted.source}` cannot stand beside `tools` that the model may call or not, unless"
            " it asks for JSON.",
            param=wanted.source,
        )
    return wanted.json


def _check_free(use: ToolUse, wanted: StructuredOutput | None) -> None:
    """Refuses parameters that cannot be enforced for models whose arguments are not JSON."""
    strict = next((function for function in use.callable if function.is_strict), None)
    if strict is not None:
        param = f"{strict.where}.strict"
    elif wanted is not None:
        param = wanted.source
    else:
        return
    raise InvalidRequest(
        f"`{param}` cannot be enforced with the way in which this model calls tools: leave it out,"
        ' or ask for a call with `tool_choice: "required"`.',
        param=param,
        code="unsupported_parameter",
    )


def _json_calls(use: ToolUse) -> StructuredOutput:
    """One call as an object, or a list of calls, in plain JSON that every engine enforces."""
    pointer = "#" if len(use.callable) == 1 else "#/anyOf/{}"
    prefix = pointer if not use.parallel else pointer.replace("#", "#/items", 1)
    calls = [
        _json_call(function, f"{prefix.format(number)}/properties/arguments")
        for number, function in enumerate(use.callable)
    ]
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    schema = {"type": "array", "items": call, "minItems": 1} if use.parallel else call
    return StructuredOutput(
        json=json.dumps(schema, ensure_ascii=False),
        source=_source(use, None),
        is_strict=any(function.is_strict for function in use.callable),
    )


def _json_call(function: FunctionSpec, pointer: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"const": function.name},
            "arguments": moved(function.arguments.closed, pointer),
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
