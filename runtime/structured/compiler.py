"""Answers that have to fit a JSON schema, a regular expression, a grammar or a list of choices.

llguidance turns each of these into a grammar and says after every token which tokens may follow.
Compiling happens in threads of its own; the work after each token is bounded by `LIMITS`, so that
a hard grammar ends with an error and delays no other request.
"""

import json
import os
import sys
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import llguidance
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuralTag, StructuredOutput, TagStructure
from runtime.structured.guide import (
    Grammar,
    one_line,
)
from runtime.structured.schema_path import find_mistake
from runtime.structured.structural_tag import lark_grammar
from runtime.structured.vocabulary import grammar_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_GRAMMARS = 128
"""Compiled grammars, and reasons why others do not compile, that are kept for the next request."""

MAX_USES = 16
"""Requests that get the same compiled grammar. All of them add to its lexer's states, which
`LIMITS` bounds: the next request gets a fresh grammar, so that none pays for many others."""

NUM_THREADS = 2
NICENESS = 10
"""Number of compiling threads, and their niceness relative to the engine's own (Linux)."""

LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=100_000,
    step_max_items=20_000,
    max_items_in_row=2_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
)
"""Bounds for compiling a grammar and for each token: about 7 ms, and 100 MB for one answer
(docs/structured-output.md has what was measured)."""

JSON_OPTIONS: "JsonCompileOptions" = {"whitespace_pattern": r"[ \n\r\t]{1,40}"}
"""Blanks between the parts of JSON: enough for indented text, and not for ever."""

CALL_OPTIONS: "JsonCompileOptions" = {"whitespace_pattern": " "}
"""The same in the arguments of calls, which models write on one line."""
_REGEX_SYNTAX = frozenset(r"\.^$*+?()[]{}|")


class _Entry:
    """A grammar that is compiled or will be, and how many have asked for it."""

    def __init__(self, future: Future[Grammar]) -> None:
        self.future = future
        self.num_uses = 0

    @property
    def is_used_up(self) -> bool:
        if self.num_uses < MAX_USES:
            return False
        return not self.future.done() or self.future.exception() is None


class GrammarCompiler:
    """Compiles in threads and remembers: requests for the same grammar share it.

    Used from one thread. `close` ends the threads.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._pool = ThreadPoolExecutor(
            NUM_THREADS, thread_name_prefix="grammars", initializer=_stand_back
        )
        self._tokenizer = tokenizer
        self._grammar_tokenizer = self._pool.submit(grammar_tokenizer, tokenizer)
        self._grammars: OrderedDict[StructuredOutput, _Entry] = OrderedDict()

    def compile(self, wanted: StructuredOutput) -> Future[Grammar]:
        """The grammar, soon. The future raises InvalidRequest, which names the parameter and, in a
        JSON schema, the place, for what cannot be enforced."""
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
        tokenizer = self._grammar_tokenizer.result()
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
        return Grammar(matcher, self._tokenizer.vocab_size, self._tokenizer.eog_token_ids)


def _matcher(tokenizer: LLTokenizer, text: str) -> tuple[LLMatcher, str]:
    """A matcher, and the error in its grammar ("" for none)."""
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=LIMITS)
    return matcher, matcher.get_error() or _first_step_error(matcher)


def _first_step_error(matcher: LLMatcher) -> str:
    """Why no answer can begin; "" when one can."""
    beginning = matcher.deep_copy()
    beginning.compute_bitmask()
    return beginning.get_error()


def _stand_back() -> None:
    """Let the engine's threads go first: on Linux priorities are those of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _grammar_text(wanted: StructuredOutput) -> str:
    """llguidance's form of what is wanted. Raises ValueError for what it cannot read."""
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
    """A schema inside a larger grammar, with the options that whole schemas are compiled with."""
    if not isinstance(schema, dict):
        return schema
    options: dict[str, Any] = dict(JSON_OPTIONS if structure is None else CALL_OPTIONS)
    if structure is not None and not structure.is_strict:
        options["lenient"] = True
    return {**schema, "x-guidance": {**options, **schema.get("x-guidance", {})}}


def _loose_grammar(tag: StructuralTag) -> str:
    """Calls whose arguments are any object, unless their schema is strict: for tools that are too
    many or too large all together."""

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
    """Where in a JSON schema the reason lies: a path, "" for the whole."""
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
