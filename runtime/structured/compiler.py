"""Compiles the constraint on an answer: a JSON schema, a regular expression, a grammar, choices.

llguidance turns each of these into a grammar, and computes after every token which tokens may
follow. `LIMITS` bounds the work after each token, so that a hard grammar ends with an error and
delays no other request. It bounds compiling less well: `runtime.structured.grammars` does the rest.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import llguidance
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput, TagStructure
from runtime.structured.fitting import ConstraintFitting, FittedConstraint
from runtime.structured.reasons import one_line
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


def compile_grammar(
    wanted: StructuredOutput, tokenizer: LLTokenizer
) -> tuple[LLMatcher, FittedConstraint]:
    """A matcher that has consumed nothing, and what it enforces of the constraint. Raises
    InvalidRequest if the constraint cannot be enforced; the error names the parameter and, for a
    JSON schema, the path."""
    fitting = ConstraintFitting(partial(_schema_error, tokenizer))
    fitted = fitting.fit(wanted)
    matcher, reason = _matcher(tokenizer, fitted.wanted)
    if matcher is None or reason:
        return compile_fitted(fitting.fit(wanted, tries=True), tokenizer)
    return matcher, fitted


def compile_fitted(
    fitted: FittedConstraint, tokenizer: LLTokenizer
) -> tuple[LLMatcher, FittedConstraint]:
    """The same for a constraint that has been fitted already."""
    matcher, reason = _matcher(tokenizer, fitted.wanted)
    if reason and fitted.wanted.structural_tag is not None:
        fitted = fitted.loosened()
        matcher, reason = _matcher(tokenizer, fitted.wanted)
    if matcher is None or reason:
        source = fitted.wanted.source
        raise InvalidRequest(f"`{source}` cannot be enforced: {one_line(reason)}.", param=source)
    return matcher, fitted


def _matcher(tokenizer: LLTokenizer, wanted: StructuredOutput) -> tuple[LLMatcher | None, str]:
    """A matcher, and the error in its grammar; "" if there is none."""
    try:
        text = _grammar_text(wanted)
    except ValueError as error:
        return None, str(error)
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=LIMITS)
    return matcher, matcher.get_error() or _first_step_error(matcher)


def _schema_error(tokenizer: LLTokenizer, schema: str) -> str:
    """The error of a JSON schema; "" if it has none."""
    return _matcher(tokenizer, StructuredOutput(json=schema))[1]


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
    the call whose arguments it describes; None for the schema of the content."""
    if not isinstance(schema, dict):
        return schema
    options = JSON_OPTIONS if structure is None else CALL_OPTIONS
    return {**schema, "x-guidance": {**options, **schema.get("x-guidance", {})}}


def _quoted(text: str) -> str:
    return "".join(f"\\{char}" if char in _REGEX_SYNTAX else char for char in text)
