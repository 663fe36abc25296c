"""A conversation in no API's words. Each family of endpoints translates its messages into turns."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.chat.reasoning.wish import ReasoningWish
from gateway.chat.tools.tool_use import ToolUse
from runtime.errors import InvalidRequest

MAX_ARGUMENTS = 50_000
"""Values in the arguments of one call."""

Role = Literal["system", "user", "assistant", "tool"]


class TurnCall(Struct, frozen=True):
    """A tool call of an earlier answer. `arguments` is an object, or the text that the client sent
    if that text is not JSON."""

    id: str
    name: str
    arguments: Any


class Turn(Struct, frozen=True):
    """One message of a conversation, made of `num_items` items of the request. With `is_kept` it is
    never dropped from a conversation that is too long.

    `reasoning` is the text that the model thought before an earlier answer. `call_id` is the id of
    the call whose result a turn of the role `tool` is; None if the client does not say. `name` is
    the participant's name, or that of the function whose result the turn is.
    """

    role: Role
    text: str
    name: str | None = None
    reasoning: str = ""
    calls: tuple[TurnCall, ...] = ()
    call_id: str | None = None
    num_items: int = 1
    is_kept: bool = False

    @property
    def uses_tools(self) -> bool:
        """Whether the turn has tool calls, or is the result of one."""
        return self.role == "tool" or bool(self.calls)


class Conversation(Struct, frozen=True, kw_only=True):
    """Everything that the prompt of a chat depends on.

    `continues_last` asks for more of the last turn, which is the assistant's. Otherwise the prompt
    ends where a new answer begins, unless `opens_answer` is false. `variables` are passed to the
    chat template. `param` is the request parameter with the messages, which errors name. `named`
    has for each role whose messages name a participant the place of the first such name.
    """

    turns: tuple[Turn, ...]
    tools: ToolUse | None = None
    reasoning: ReasoningWish = ReasoningWish()
    continues_last: bool = False
    opens_answer: bool = True
    variables: Mapping[str, Any] = {}
    param: str = "messages"
    named: Mapping[Role, str] = {}

    @property
    def uses_tools(self) -> bool:
        """Whether the model may call tools now, or has called some before."""
        return self.tools is not None or any(turn.uses_tools for turn in self.turns)

    @property
    def continued_text(self) -> str | None:
        """The text that the model is to continue; None if it starts a new answer."""
        return self.turns[-1].text if self.continues_last else None


def parse_arguments(text: str, where: str) -> Any:
    """The arguments of a call as an object, because chat templates write them as JSON. An empty
    text becomes an empty object; a text that is not JSON stays a text. Raises InvalidRequest, with
    `where` in the request they are, for too many values."""
    if not text or text.isspace():
        return {}
    if text.count(",") > MAX_ARGUMENTS:
        raise InvalidRequest(
            f"`{where}` has more than {MAX_ARGUMENTS} values. Send less of them.",
            param=where,
            code="invalid_value",
        )
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
