"""What a dialect of tool calls is: how a model says that it calls, and who reads it."""

from collections.abc import Callable, Collection
from typing import Protocol

from msgspec import Struct

from gateway.chat.parsing.pieces import Parser
from runtime.messages.structured_output import BareCalls


class CallForm(Struct, frozen=True, kw_only=True):
    """How calls are written when a grammar holds the model to it (`StructuralTag`).

    A text begins with `opening`, of which `trigger` is the first part; then come calls with
    `separator` between them, and `close`. `begin` makes of a function's name what stands before its
    arguments, and `end` stands behind them. With `at_start` only the beginning of the answer can be
    a call. `thought_start` and `thought_end` surround reasoning that may precede the call in the
    same text; `answer` is the marker before ordinary content. `bare` describes calls without the
    opening, which some models write as well when they may call.
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
    bare: BareCalls | None = None


class NewParser(Protocol):
    """Makes the parser of one choice. `names` are the functions that there are; `max_calls` is how
    many calls are told (the rest is dropped), None for all."""

    def __call__(
        self, names: Collection[str], new_id: Callable[[], str], max_calls: int | None
    ) -> Parser: ...


class Dialect(Struct, frozen=True, kw_only=True):
    """One way of calling tools.

    A chat template that has all texts of one of `signs` teaches it. `marks` are texts that the
    parser looks for; where they are tokens that stand for no text, they have to be shown. `form`
    is None where arguments are not JSON, and no grammar is made for them. `new_form_parser` makes a
    parser of what is in that form and of no bare calls; None where `new_parser` does. With
    `tells_reasoning` the parser knows what is thought as well.
    """

    name: str
    signs: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...]
    form: CallForm | None
    new_parser: NewParser
    new_form_parser: NewParser | None = None
    tells_reasoning: bool = False
