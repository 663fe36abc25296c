"""The interface of a tool dialect: how a model writes tool calls, and which parser reads them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from gateway.chat.parsing.pieces import Parser
from runtime.messages.structured_output import ArgumentTags


class CallForm(Struct, frozen=True, kw_only=True):
    """The syntax of calls that a grammar (`StructuralTag`) enforces.

    A text begins with `opening`, whose first part is `trigger`; then come calls with `separator`
    between them, and `close`. `before` is text before the opening that models may leave out.
    `begin` returns, for a function's name, the text before its arguments; `end` is the text after
    them. With `arguments` the arguments are text between tags, otherwise JSON. With `at_start` a
    call can only be at the beginning of the answer. `thought_start` and `thought_end` surround
    reasoning that may precede the call in the same text; `answer` is the marker before ordinary
    content.
    """

    trigger: str
    opening: str
    separator: str
    close: str
    begin: Callable[[str], str]
    end: str
    at_start: bool = False
    answer: str = ""
    thought_start: str = ""
    thought_end: str = ""
    before: str = ""
    arguments: ArgumentTags | None = None


class NewParser(Protocol):
    """Makes the parser of one choice. `functions` maps the names of the available functions to the
    JSON schemas of their arguments. `max_calls` is how many calls are emitted (the rest is
    dropped); None emits all."""

    def __call__(
        self,
        functions: Mapping[str, Mapping[str, Any]],
        new_id: Callable[[], str],
        max_calls: int | None,
        /,
    ) -> Parser: ...


class Dialect(Struct, frozen=True, kw_only=True):
    """One syntax of tool calls.

    A chat template teaches the dialect if it contains all texts of one of `signs`. `marks` are
    texts that the parser searches for; marks that are tokens without text must be shown. `form` is
    None if no grammar can be made for the syntax. `new_form_parser` makes a parser
    that reads calls in `form` alone and treats bare calls as content; None if `new_parser` finds no
    bare calls. With `parses_reasoning` the parser finds the reasoning as well.
    """

    name: str
    signs: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...]
    form: CallForm | None
    new_parser: NewParser
    new_form_parser: NewParser | None = None
    parses_reasoning: bool = False
