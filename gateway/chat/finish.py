"""How an answer ended, and the tool calls in it."""

from typing import Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "tool_calls", "function_call"]


class ToolCall(Struct, frozen=True):
    """One call of a whole answer. `arguments` is the JSON that the model wrote."""

    id: str
    name: str
    arguments: str
