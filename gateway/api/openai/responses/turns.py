"""Items of `input` to the turns of a conversation. Pure.

OpenAI's items for the reasoning, the text and the calls of one turn are separate; in a conversation
they are one turn of the assistant.
"""

from collections.abc import Sequence
from typing import NoReturn

from msgspec.structs import replace

from gateway.api.openai.responses.compaction.content import Summary
from gateway.api.openai.responses.compaction.replay import Placed, replayed
from gateway.api.openai.responses.compaction.summary import summary_turn
from gateway.api.openai.responses.protocol import (
    InputContent,
    InputFunctionCall,
    InputFunctionOutput,
    InputItem,
    InputMessage,
    InputReasoning,
    InputText,
    OutputText,
    Refusal,
)
from gateway.chat.call_ids import with_call_ids
from gateway.chat.conversation import Turn, TurnCall, parse_arguments
from runtime.errors import InvalidRequest

EARLIER = "previous_response_id"
"""The parameter that stands for what was said before."""


def turns_of(
    instructions: str | None,
    earlier: Sequence[InputItem],
    items: Sequence[InputItem],
    before: str = EARLIER,
) -> tuple[Turn, ...]:
    """The conversation: `instructions`, what was said `earlier`, for which the parameter `before`
    stands, and the items of `input`. Raises InvalidRequest, with its place, for content that is
    not text."""
    turns = _Turns()
    if instructions is not None:
        turns.add(Turn("system", instructions))
    places = [f"{before}[{index}]" for index in range(len(earlier))]
    places += [f"input[{index}]" for index in range(len(items))]
    placed = [Placed(*each) for each in zip(places, (*earlier, *items), strict=True)]
    for each in replayed(placed):
        where = each.where
        match item := each.item:
            case Summary():
                turns.add(summary_turn(item))
            case InputMessage(role="assistant", content=content):
                turns.add_text(_text(content, f"{where}.content"))
            case InputMessage(role=role, content=content):
                text = _text(content, f"{where}.content")
                turns.add(Turn("user" if role == "user" else "system", text))
            case InputFunctionOutput(output=output, call_id=call_id):
                turns.add(Turn("tool", _text(output or "", f"{where}.output"), call_id=call_id))
            case InputFunctionCall(name=name, arguments=arguments, call_id=call_id):
                parsed = parse_arguments(arguments or "", f"{where}.arguments")
                turns.add_call(TurnCall(call_id or "", name, parsed))
            case InputReasoning():
                turns.add_reasoning(_reasoning(item))
    return turns.finished()


class _Turns:
    """Collects the reasoning, the text and the calls of the assistant's current turn."""

    def __init__(self) -> None:
        self._turns: list[Turn] = []
        self._reasoning: list[str] = []
        self._text: str | None = None
        self._calls: list[TurnCall] = []
        self._num_items = 0

    def add_reasoning(self, text: str) -> None:
        if text and (self._text or self._calls):
            self._end_turn()
        self._num_items += 1
        if text:
            self._reasoning.append(text)

    def add_text(self, text: str) -> None:
        if self._text is not None or self._calls:
            self._end_turn()
        self._num_items += 1
        self._text = text

    def add_call(self, call: TurnCall) -> None:
        self._num_items += 1
        self._calls.append(call)

    def add(self, turn: Turn) -> None:
        """Adds a turn of somebody else, which ends the assistant's."""
        self._end_turn()
        self._turns.append(self._with_empty(turn))

    def finished(self) -> tuple[Turn, ...]:
        self._end_turn()
        if self._turns:
            self._turns[-1] = self._with_empty(self._turns[-1])
        return with_call_ids(self._turns)

    def _with_empty(self, turn: Turn) -> Turn:
        """The turn, with the items beside it that have nothing to say."""
        num_items, self._num_items = turn.num_items + self._num_items, 0
        return replace(turn, num_items=num_items)

    def _end_turn(self) -> None:
        if self._reasoning or self._calls or self._text is not None:
            turn = Turn(
                "assistant",
                self._text or "",
                reasoning="".join(self._reasoning),
                calls=tuple(self._calls),
                num_items=self._num_items,
            )
            self._turns.append(turn)
            self._num_items = 0
        self._reasoning, self._text, self._calls = [], None, []


def _text(content: InputContent, where: str) -> str:
    """The text of an item. Several parts are separate lines."""
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        match part:
            case InputText(text) | OutputText(text) | Refusal(text):
                texts.append(text)
            case _:
                _refuse_part(f"{where}[{index}]", str(part.__struct_config__.tag))
    return "\n".join(texts)


def _reasoning(item: InputReasoning) -> str:
    """The full text of the reasoning, or else its summary."""
    return "".join([part.text for part in item.content or item.summary or ()])


def _refuse_part(param: str, kind: str) -> NoReturn:
    raise InvalidRequest(
        f"`{kind}` is not supported in `{param}`: this server takes text.",
        param=param,
        code="unsupported_value",
    )
