"""Compiles the constraint on an answer: a JSON schema, a regular expression, a grammar, choices.

llguidance turns each of these into a grammar, and computes after every token which tokens may
follow. `LIMITS` bounds the work after each token, so that a hard grammar ends with an error and
delays no other request. It bounds compiling less well: `runtime.structured.grammars` does the rest.
"""

import json
from typing import TYPE_CHECKING, Any

import llguidance
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuralTag, StructuredOutput, TagStructure
from runtime.structured.reasons import one_line
from runtime.structured.schema_path import find_mistake
from runtime.structured.structural_tag import lark_grammar

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=20_000,
    max_items_in_row=2_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
)
"""Bounds for compiling a grammar and for the work after each token: about 7 ms a token, and 100 MB
an answer (docs/structured-output.md has the measurements)."""

JSON_OPTIONS: "JsonCompileOptions" = {"whitespace_pattern": r"[ \n\r\t]{1,40}"}
"""Whitespace between the tokens of JSON: enough for indented text, but bounded."""

CALL_OPTIONS: "JsonCompileOptions" = {"whitespace_pattern": " "}
"""Whitespace in the arguments of tool calls: single spaces, as models write calls on one line."""
_REGEX_SYNTAX = frozenset(r"\.^$*+?()[]{}|")


def compile_grammar(wanted: StructuredOutput, tokenizer: LLTokenizer) -> LLMatcher:
    """A matcher that has consumed nothing. Raises InvalidRequest if the constraint cannot be
    enforced; the error names the parameter and, for a JSON schema, the path."""
    try:
        text = _grammar_text(wanted)
    except ValueError as error:
        raise _refusal(wanted, str(error)) from error
    matcher, reason = _matcher(tokenizer, text)
    if reason and wanted.structural_tag is not None:
        _check_structures(wanted.structural_tag, tokenizer)
        matcher, reason = _matcher(tokenizer, _loose_grammar(wanted.structural_tag))
    if reason:
        raise _refusal(wanted, reason, _place(wanted, reason, tokenizer))
    return matcher


def _matcher(tokenizer: LLTokenizer, text: str) -> tuple[LLMatcher, str]:
    """A matcher, and the error in its grammar; "" if there is none."""
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=LIMITS)
    return matcher, matcher.get_error() or _first_step_error(matcher)


def _first_step_error(matcher: LLMatcher) -> str:
    """The error of computing the first tokens of an answer; "" if there is none."""
    beginning = matcher.deep_copy()
    beginning.compute_bitmask()
    return beginning.get_error()


def _grammar_text(wanted: StructuredOutput) -> str:
    """The constraint as a grammar in llguidance's format. Raises ValueError if llguidance cannot
    read it."""
    if wanted.json is not None:
        return LLMatcher.grammar_from_json_schema(wanted.json, defaults=JSON_OPTIONS)
    if wanted.json_object:
        return LLMatcher.grammar_from_json_schema('{"type":"object"}', defaults=JSON_OPTIONS)
    if wanted.regex is not None:
        # ASCII digits and letters for \d and \w, as in JSON schemas and in vLLM's own backends.
        return LLMatcher.grammar_from_lark(f"start: /{regex_to_lark(wanted.regex, 'dw')}/")
    if wanted.structural_tag is not None:
        return LLMatcher.grammar_from_lark(lark_grammar(wanted.structural_tag, _call_schema))
    if wanted.grammar is not None:
        return llguidance.grammar_from("grammar", wanted.grammar)
    return LLMatcher.grammar_from_regex("|".join(map(_quoted, wanted.choice)))


def _call_schema(structure: TagStructure | None, schema: Any) -> Any:
    """A schema inside a larger grammar, with its compile options written into it. `structure` is
    the call whose arguments it describes; None for the schema of the content. Unless the call is
    strict, keywords that llguidance cannot enforce are ignored."""
    if not isinstance(schema, dict):
        return schema
    options: dict[str, Any] = dict(JSON_OPTIONS if structure is None else CALL_OPTIONS)
    if structure is not None and not structure.is_strict:
        options["lenient"] = True
    return {**schema, "x-guidance": {**options, **schema.get("x-guidance", {})}}


def _loose_grammar(tag: StructuralTag) -> str:
    """The tag's grammar with any object as arguments of calls that are not strict. It serves
    requests whose tools compile one by one but are too many or too large together."""

    def loose(structure: TagStructure | None, schema: Any) -> Any:
        keeps = structure is None or structure.is_strict
        return _call_schema(structure, schema if keeps else {"type": "object"})

    return LLMatcher.grammar_from_lark(lark_grammar(tag, loose))


def _check_structures(tag: StructuralTag, tokenizer: LLTokenizer) -> None:
    """Raises InvalidRequest for the first schema that does not compile by itself."""
    for structure in tag.structures:

        def mistake(schema: str, structure: TagStructure = structure) -> str:
            text = json.dumps(_call_schema(structure, json.loads(schema)))
            grammar = LLMatcher.grammar_from_json_schema(text)
            return LLMatcher.validate_grammar(grammar, tokenizer, limits=LIMITS)

        if reason := mistake(structure.schema):
            place = find_mistake(structure.schema, mistake)
            where = f"at `{place}`: " if place else ""
            raise InvalidRequest(
                f"`{structure.source}` cannot be enforced: {where}{one_line(reason)}",
                param=structure.source,
                code="invalid_function_parameters",
            )


def _quoted(text: str) -> str:
    return "".join(f"\\{char}" if char in _REGEX_SYNTAX else char for char in text)


def _place(wanted: StructuredOutput, reason: str, tokenizer: LLTokenizer) -> str:
    """The path of the part of a JSON schema that causes the error; "" for the whole schema."""
    if wanted.json is None:
        return ""

    def mistake(schema: str) -> str:
        text = LLMatcher.grammar_from_json_schema(schema, defaults=JSON_OPTIONS)
        return LLMatcher.validate_grammar(text, tokenizer, limits=LIMITS)

    return find_mistake(wanted.json, mistake)


def _refusal(wanted: StructuredOutput, reason: str, place: str = "") -> InvalidRequest:
    where = f"in its schema, at `{place}`: " if place else ""
    return InvalidRequest(
        f"`{wanted.source}` cannot be enforced: {where}{one_line(reason)}", param=wanted.source
    )
