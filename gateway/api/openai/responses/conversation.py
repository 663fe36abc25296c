"""Items of `input` to the messages of a chat. Pure.

OpenAI tells thoughts, words and calls of one turn as items of their own; in a chat they are one
message of the assistant.
"""

from collections.abc import Sequence
from typing import NoReturn

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
from gateway.chat.conversation import (
    AssistantMessage,
    DeveloperMessage,
    FunctionCall,
    Message,
    Part,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from runtime.errors import InvalidRequest

Content = str | list[Part]


def messages_of(instructions: str | None, items: Sequence[InputItem]) -> list[Message]:
    """The conversation, `instructions` in front. Raises InvalidRequest with the place of what is
    no text."""
    turns = _Turns()
    if instructions is not None:
        turns.messages.append(SystemMessage(instructions))
    for index, item in enumerate(items):
        where = f"input[{index}]"
        match item:
            case InputMessage(role="assistant", content=content):
                turns.says(_content(content, f"{where}.content"))
            case InputMessage():
                turns.other(_message(item, f"{where}.content"))
            case InputFunctionOutput(output=output, call_id=call_id):
                turns.other(ToolMessage(_content(output, f"{where}.output"), call_id))
            case InputFunctionCall(name=name, arguments=arguments, call_id=call_id):
                turns.calls(ToolCall(FunctionCall(name, arguments), call_id))
            case InputReasoning():
                turns.thinks(_thought(item))
    turns.end()
    return turns.messages


class _Turns:
    """Puts what the assistant thought, said and called in one turn into one message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._turn: AssistantMessage | None = None

    def thinks(self, text: str) -> None:
        if not text:
            return
        if self._turn is not None and (self._turn.content or self._turn.tool_calls):
            self.end()
        turn = self._assistant()
        turn.reasoning_content = (turn.reasoning_content or "") + text

    def says(self, content: Content) -> None:
        if self._turn is not None and (self._turn.content is not None or self._turn.tool_calls):
            self.end()
        self._assistant().content = content

    def calls(self, call: ToolCall) -> None:
        turn = self._assistant()
        turn.tool_calls = [*(turn.tool_calls or ()), call]

    def other(self, message: Message) -> None:
        self.end()
        self.messages.append(message)

    def end(self) -> None:
        if self._turn is not None:
            self.messages.append(self._turn)
            self._turn = None

    def _assistant(self) -> AssistantMessage:
        self._turn = self._turn or AssistantMessage()
        return self._turn


def _message(item: InputMessage, where: str) -> Message:
    content = _content(item.content, where)
    match item.role:
        case "system":
            return SystemMessage(content)
        case "developer":
            return DeveloperMessage(content)
    return UserMessage(content)


def _content(content: InputContent, where: str) -> Content:
    if isinstance(content, str):
        return content
    parts: list[Part] = []
    for index, part in enumerate(content):
        match part:
            case InputText(text) | OutputText(text):
                parts.append(TextPart(text))
            case Refusal(refusal):
                parts.append(RefusalPart(refusal))
            case _:
                _refuse_part(f"{where}[{index}]", str(part.__struct_config__.tag))
    return parts


def _thought(item: InputReasoning) -> str:
    """In full, or else as a summary."""
    return "".join([part.text for part in item.content or item.summary or ()])


def _refuse_part(param: str, kind: str) -> NoReturn:
    raise InvalidRequest(
        f"`{kind}` is not supported in `{param}`: this server takes text.",
        param=param,
        code="unsupported_value",
    )
