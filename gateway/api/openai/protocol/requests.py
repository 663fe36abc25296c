"""OpenAI's requests as Structs, and how a body becomes one.

Every field of OpenAI's document is declared, so that each can be honoured or refused on purpose
(`gateway.api.openai.translate.unsupported` has the tables), and those beyond it that this server honours, by the names that
other servers give them. Null and absent mean the same.
"""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.allowed_values import allowed_values
from gateway.api.openai.protocol.response_format import Choices, ResponseFormat, StructuredOutputs
from gateway.api.openai.protocol.tools import FunctionChoice, Functions, ToolChoice, Tools
from gateway.chat.parsing.surrogates import find_half
from runtime.errors import InvalidRequest

Unsupported = Any
"""A field that is refused unless it has a neutral value: its inside is never looked at."""

Unchecked = Any
"""A field that `gateway.generation.scheduling` checks, for a message that lists what is allowed."""

Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
NumChoices = Annotated[int, Meta(ge=1, le=128)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# No number is larger than a message to the engine can hold. The context's length is checked later.
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TopK = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
NumTokens = Annotated[int, Meta(ge=0, le=2**63 - 1)]
NumNewTokens = Annotated[int, Meta(ge=1, le=2**63 - 1)]
LogitBias = dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]]
StopString = Annotated[str, Meta(min_length=1)]
StopStrings = Annotated[list[StopString], Meta(max_length=4)]
CacheSalt = Annotated[str, Meta(min_length=1, max_length=256)]
Metadata = Annotated[
    dict[
        Annotated[str, Meta(max_length=64)],
        Annotated[str, Meta(max_length=512)],
    ],
    Meta(max_length=16),
]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]


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

    id: str
    name: str
    input: dict[str, Any]


ResultPart = TextPart | ImagePart | AudioPart | FilePart | ImageBlock | DocumentBlock


class ToolResultBlock(Struct, tag_field="type", tag="tool_result"):
    """The result of a call in Anthropic's form, which stands in a message of the user."""

    tool_use_id: str
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
Content = str | Annotated[list[Part], Meta(min_length=1)]


class FunctionCall(Struct):
    """A call that the model made earlier. `arguments` is JSON in a string."""

    name: str
    arguments: str


class ToolCall(Struct):
    function: FunctionCall
    id: str = ""
    type: Literal["function"] = "function"


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
    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    audio: Unsupported = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class ToolMessage(Struct, tag_field="role", tag="tool"):
    content: Content
    tool_call_id: str
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


class StreamOptions(Struct):
    """`continuous_usage_stats` puts the usage so far into every chunk; not OpenAI's."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = None


class WorkRequest(Struct, kw_only=True):
    """What all that the engine works on takes. `priority` and `deadline` are not OpenAI's."""

    model: str
    user: str | None = None
    priority: Unchecked = None
    deadline: float | None = None


class GenerationRequest(WorkRequest, kw_only=True):
    """What both endpoints that generate take. OpenAI does not know `top_k` and what follows it, and
    `response_format` for chats alone."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: NumChoices | None = None
    stop: StopString | StopStrings | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: LogitBias | None = None
    response_format: ResponseFormat | None = None
    top_k: TopK | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    min_tokens: NumTokens | None = None
    stop_token_ids: list[TokenId] | None = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=2**63 - 1)] | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    cache_salt: CacheSalt | None = None


class ChatCompletionRequest(GenerationRequest, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: NumNewTokens | None = None
    max_completion_tokens: NumNewTokens | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: ServiceTier | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    prediction: Any = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    functions: Functions | None = None
    function_call: FunctionChoice | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Unsupported = None
    modalities: Unsupported = None
    audio: Unsupported = None
    web_search_options: Unsupported = None
    moderation: Unsupported = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    thinking_token_budget: NumTokens | None = None
    include_reasoning: bool | None = None


class CompletionRequest(GenerationRequest, kw_only=True):
    """The body of POST /v1/completions. `prompt` is a text, several, token ids, or several lists
    of them; null is the empty text."""

    prompt: str | list[str | int | list[int]] | None
    max_tokens: NumTokens | None = None
    echo: bool | None = None
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    suffix: str | None = None


T = TypeVar("T", bound=Struct)

decode_chat_completion = msgspec.json.Decoder(ChatCompletionRequest).decode
decode_completion = msgspec.json.Decoder(CompletionRequest).decode

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_PATH = re.compile(r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*?)(\[\.\.\.\])?`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>[^`]*)`")
_WRONG_WORD = re.compile(r"^invalid (enum )?value ")
_WRONG_TYPE = re.compile(r"^Expected `[^`]*`, got `[^`]*`$")


def unknown_fields(body: bytes, known: type[Struct]) -> dict[str, msgspec.Raw]:
    """What stands at the top of a body that `known` does not declare. The body has been decoded."""
    fields = _decode_fields(body)
    names = fields.keys() - set(known.__struct_fields__)
    return {name: fields[name] for name in names}


MISTAKES = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for a body that is not what it should be."""


def to_invalid_request(
    error: Exception, kind: type[Struct], where: str = "", body: bytes = b""
) -> InvalidRequest:
    """What a decoder of `kind` found wrong, in OpenAI's terms: a path such as `messages[0].role`.
    `where` is the place in the body of what was decoded, if that was a part of it. `body` is
    searched for what a decoder does not tell the place of."""
    if isinstance(error, RecursionError):
        return InvalidRequest("The body is nested too deeply.", param=None, code="invalid_json")
    if isinstance(error, msgspec.ValidationError):
        return _wrong_shape(str(error), kind, where)
    if (place := find_half(body)) is not None:
        return _half_character(place)
    message = f"The body is not valid JSON: {error}."
    return InvalidRequest(message, param=None, code="invalid_json")


def _half_character(place: str) -> InvalidRequest:
    return InvalidRequest(
        f"{f'`{place}`' if place else 'The body'} has an escape from `\\ud800` to `\\udfff` that is"
        " half of a surrogate pair, without the other half. That is no character: leave it out.",
        param=place or None,
        code="invalid_value",
    )


def _wrong_shape(text: str, kind: type[Struct], where: str) -> InvalidRequest:
    found = _PATH.search(text)
    path = (where + (found["path"] if found else "")).removeprefix(".")
    reason = text[: found.start()] if found else text
    if missing := _MISSING.match(reason):
        name = f"{path}.{missing['field']}" if path else missing["field"]
        message = f"`{name}` is required."
        return InvalidRequest(message, param=name, code="missing_required_parameter")
    if unknown := _UNKNOWN.match(reason):
        name = f"{path}.{unknown['field']}" if path else unknown["field"]
        message = f"`{name}` is not a parameter here. Leave it out."
        return InvalidRequest(message, param=name, code="unknown_parameter")
    code = "invalid_type" if _WRONG_TYPE.match(reason) else "invalid_value"
    reason = reason[:1].lower() + reason[1:]
    if not path:
        return InvalidRequest(f"The body is wrong: {reason}.", param=None, code=code)
    what = f"A key of `{path}`" if found and found["key"] else f"`{path}`"
    advice = _advice(reason, kind, found["path"] if found else "")
    return InvalidRequest(f"{what} is wrong: {reason}.{advice}", param=path, code=code)


def _advice(reason: str, kind: type[Struct], path: str) -> str:
    """What would do, where one of a few words would."""
    if not _WRONG_WORD.match(reason):
        return ""
    words = ", ".join(f"`{word}`" for word in allowed_values(kind, path))
    return f" Known are {words}." if words else ""
