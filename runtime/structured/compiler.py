"""Compiles the constraint on an answer: a JSON schema, a regular expression, a grammar, choices.

llguidance turns each of these into a grammar, and computes after every token which tokens may
follow. Grammars are compiled in threads of their own. `LIMITS` bounds the work after each token, so
that a hard grammar ends with an error and delays no other request.
"""

import os
import sys
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import llguidance
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import LeftOut, StructuredOutput, TagStructure
from runtime.structured.fitting import ConstraintFitting
from runtime.structured.guide import Grammar
from runtime.structured.reasons import one_line
from runtime.structured.structural_tag import lark_grammar
from runtime.structured.vocabulary import grammar_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_GRAMMARS = 128
"""Size of the cache. An entry is a compiled grammar, or the error of one that does not compile."""

MAX_USES = 16
"""Number of requests that share one compiled grammar. Each of them adds states to its lexer, and
`LIMITS` bounds their number. The next request gets a newly compiled grammar, so that it does not
reach the bound because of others."""

NUM_THREADS = 2
NICENESS = 10
"""Number of compiling threads, and their niceness (Linux)."""

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


class _Entry:
    """A grammar that is or will be compiled, and the number of requests that share it."""

    def __init__(self, future: Future[Grammar]) -> None:
        self.future = future
        self.num_uses = 0

    @property
    def is_used_up(self) -> bool:
        """Whether the next request needs a new grammar. A compile error is reused without limit."""
        if self.num_uses < MAX_USES:
            return False
        return not self.future.done() or self.future.exception() is None


class GrammarCompiler:
    """Compiles grammars in threads and caches them: requests with the same constraint share one.

    Must be used from one thread. `close` ends the threads.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._pool = ThreadPoolExecutor(
            NUM_THREADS, thread_name_prefix="grammars", initializer=_stand_back
        )
        self._tokenizer = tokenizer
        self._grammar_tokenizer = self._pool.submit(grammar_tokenizer, tokenizer)
        self._grammars: OrderedDict[StructuredOutput, _Entry] = OrderedDict()

    def compile(self, wanted: StructuredOutput) -> Future[Grammar]:
        """The future of a grammar. It raises InvalidRequest if the constraint cannot be enforced;
        the error names the parameter and, for a JSON schema, the path."""
        entry = self._grammars.get(wanted)
        if entry is None or entry.is_used_up:
            entry = self._grammars[wanted] = _Entry(self._pool.submit(self._compile, wanted))
        self._grammars.move_to_end(wanted)
        if len(self._grammars) > MAX_GRAMMARS:
            self._grammars.popitem(last=False)
        entry.num_uses += 1
        return entry.future

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _compile(self, wanted: StructuredOutput) -> Grammar:
        matcher, left_out = compile_grammar(wanted, self._grammar_tokenizer.result())
        vocab_size, eog_token_ids = self._tokenizer.vocab_size, self._tokenizer.eog_token_ids
        return Grammar(matcher, vocab_size, eog_token_ids, left_out)


def compile_grammar(
    wanted: StructuredOutput, tokenizer: LLTokenizer
) -> tuple[LLMatcher, tuple[LeftOut, ...]]:
    """A matcher that has consumed nothing, and the keywords of schemas that it does not enforce.
    Raises InvalidRequest if the constraint cannot be enforced; the error names the parameter and,
    for a JSON schema, the path."""
    fitting = ConstraintFitting(partial(_schema_error, tokenizer))
    fitted = fitting.fit(wanted)
    matcher, reason = _matcher(tokenizer, fitted.wanted)
    if reason:
        fitted = fitting.fit(wanted, tries=True)
        matcher, reason = _matcher(tokenizer, fitted.wanted)
    if reason and wanted.structural_tag is not None:
        fitted = fitting.loosened(fitted)
        matcher, reason = _matcher(tokenizer, fitted.wanted)
    if reason or matcher is None:
        raise InvalidRequest(
            f"`{wanted.source}` cannot be enforced: {one_line(reason)}.", param=wanted.source
        )
    return matcher, fitted.left_out


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


def _stand_back() -> None:
    """Gives the engine's threads precedence over this one: on Linux each thread has its own
    niceness."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


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
