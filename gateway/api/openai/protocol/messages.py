"""The messages of OpenAI's chats as Structs, with Anthropic's blocks that clients send too."""

from typing import Any, Literal

from msgspec import Struct

from gateway.api.openai.protocol.params import Unsupported


class TextPart(Struct, tag_field="type", tag="text"):
    text: str


class RefusalPart(Struct, tag_field="type", tag="refusal"):
    refusal: str


class ImagePart(Struct, tag_field="type", tag="image_url"):
    image_url: Unsupported = None


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    input_audio: Unsupported = None


class FilePart(Struct, tag_field="type", tag="file"):
    file: Unsupported = None


class ImageBlock(Struct, tag_field="type", tag="image"):
    """Anthropic's form of an image."""

    source: Unsupported = None


class DocumentBlock(Struct, tag_field="type", tag="document"):
    """Anthropic's form of a file."""

    source: Unsupported = None


class ToolUseBlock(Struct, tag_field="type", tag="tool_use"):
    """A call in Anthropic's form. `input` is the arguments, as an object."""

    name: str
    input: dict[str, Any] | None
    id: str | None = None


ResultPart = TextPart | ImagePart | AudioPart | FilePart | ImageBlock | DocumentBlock


class ToolResultBlock(Struct, tag_field="type", tag="tool_result"):
    """The result of a call in Anthropic's form, which stands in a message of the user."""

    tool_use_id: str | None = None
    content: str | list[ResultPart] | None = None
    is_error: bool | None = None


Part = (
    TextPart
    | RefusalPart
    | ImagePart
    | AudioPart
    | FilePart
    | ImageBlock
    | DocumentBlock
    | ToolUseBlock
    | ToolResultBlock
)
Content = str | list[Part]
"""No parts at all are an empty text."""


class FunctionCall(Struct):
    """A call that the model made earlier. `arguments` is JSON in a string."""

    name: str
    arguments: str | None = None


class ToolCall(Struct):
    function: FunctionCall
    id: str | None = None
    type: Literal["function"] | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer"):
    content: Content
    name: str | None = None


class SystemMessage(Struct, tag_field="role", tag="system"):
    content: Content
    name: str | None = None


class UserMessage(Struct, tag_field="role", tag="user"):
    content: Content
    name: str | None = None


class AssistantMessage(Struct, tag_field="role", tag="assistant"):
    """An earlier answer. `prefix` (DeepSeek, Mistral) and `partial` (Kimi, Qwen) ask for more of
    it, and `thinking` is Ollama's name of its reasoning."""

    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    audio: Unsupported = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    prefix: bool | None = None
    partial: bool | None = None


class ToolMessage(Struct, tag_field="role", tag="tool"):
    """The result of a call. Without `tool_call_id` it is that of the next call without a result."""

    content: Content | None = None
    tool_call_id: str | None = None
    name: str | None = None


class FunctionMessage(Struct, tag_field="role", tag="function"):
    name: str
    content: str | None = None


Message = (
    DeveloperMessage
    | SystemMessage
    | UserMessage
    | AssistantMessage
    | ToolMessage
    | FunctionMessage
)
