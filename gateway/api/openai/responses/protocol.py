"""The body of POST /v1/responses and POST /v1/responses/input_tokens as a Struct.

The lists `input` and `tools` are decoded in a second step (`input_items`, `tools_of`): a message
may omit its type there, and this server refuses many of OpenAI's types by name.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.api.openai.protocol.params import (
    MaxTokens,
    Metadata,
    NumTokens,
    ServiceTier,
    TemplateVariables,
    Unsupported,
    Verbosity,
)
from gateway.api.openai.protocol.requests import SampledRequest
from gateway.api.openai.protocol.response_format import JSONObjectFormat, TextFormat
from gateway.api.openai.protocol.tools import FUNCTION, MAX_TOOLS, FunctionName
from gateway.chat.reasoning.wish import ReasoningEffort
from gateway.http.decoding import MISTAKES, to_invalid_request
from runtime.errors import InvalidRequest


class InputText(Struct, tag_field="type", tag="input_text"):
    text: str


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str


class Refusal(Struct, tag_field="type", tag="refusal"):
    refusal: str


class InputImage(Struct, tag_field="type", tag="input_image"):
    """An image, which is refused."""


class InputFile(Struct, tag_field="type", tag="input_file"):
    """A file, which is refused."""


class InputAudio(Struct, tag_field="type", tag="input_audio"):
    """Audio, which is refused."""


InputPart = InputText | OutputText | Refusal | InputImage | InputFile | InputAudio
InputContent = str | list[InputPart]
"""No parts at all are an empty text."""


class InputMessage(Struct, kw_only=True):
    """A message of the client, or an earlier answer. An item without a `type` is a message."""

    role: Literal["user", "assistant", "system", "developer"]
    content: InputContent
    type: Literal["message"] | None = None


class InputFunctionCall(Struct, kw_only=True):
    """A call that the model made earlier. `arguments` is JSON in a string."""

    type: Literal["function_call"]
    name: str
    call_id: str | None = None
    arguments: str | None = None


class InputFunctionOutput(Struct, kw_only=True):
    """The result of a function call. Without `call_id` it is that of the next call without a
    result."""

    type: Literal["function_call_output"]
    call_id: str | None = None
    output: InputContent | None = None


class ThoughtText(Struct, kw_only=True):
    """A part of the reasoning, in full or as a summary."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class InputReasoning(Struct, kw_only=True):
    """Earlier reasoning of the model. Reasoning that another server has encrypted cannot be read
    and is skipped."""

    type: Literal["reasoning"]
    content: list[ThoughtText] | None = None
    summary: list[ThoughtText] | None = None


class InputCompaction(Struct, kw_only=True):
    """A summary of what was before it, which this server has made. What it stands for is not read
    any more."""

    type: Literal["compaction"]
    encrypted_content: Annotated[str, Meta(max_length=20_971_520)]


InputItem = (
    InputMessage | InputFunctionCall | InputFunctionOutput | InputReasoning | InputCompaction
)

ITEMS: Mapping[str, type[Struct]] = {
    "message": InputMessage,
    "function_call": InputFunctionCall,
    "function_call_output": InputFunctionOutput,
    "reasoning": InputReasoning,
    "compaction": InputCompaction,
}


class ResponseTool(Struct, kw_only=True):
    """A function that the model may call. `parameters` is a JSON schema of an object."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: Raw = msgspec.field(default_factory=partial(Raw, b"null"))
    strict: bool | None = None


class ResponseTools(Struct, frozen=True):
    """The tools of a response by their places in `tools`. `skipped` are the types of those that are
    no functions."""

    functions: Mapping[int, ResponseTool] = {}
    skipped: Mapping[int, str] = {}


class ChosenFunction(Struct, tag_field="type", tag="function"):
    name: str


class AllowedFunctions(Struct, tag_field="type", tag="allowed_tools"):
    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenFunction], Meta(min_length=1)]


ResponseToolChoice = Literal["none", "auto", "required"] | ChosenFunction | AllowedFunctions


class JSONSchemaTextFormat(
    Struct,
    tag_field="type",
    tag="json_schema",
    forbid_unknown_fields=True,
    kw_only=True,
    omit_defaults=True,
):
    """With `strict` a keyword that cannot be enforced is an error; otherwise it is left out."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: Raw
    strict: bool | None = None
    description: str | None = None


ResponseTextFormat = TextFormat | JSONObjectFormat | JSONSchemaTextFormat


class TextOptions(Struct):
    format: ResponseTextFormat | None = None
    verbosity: Verbosity | None = None


class ReasoningOptions(Struct):
    """The options of the reasoning. `summary` and `generate_summary` have no effect: the answer has
    the whole reasoning."""

    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    mode: Unsupported = None
    context: Unsupported = None


class ContextManagement(Struct):
    """With more than `compact_threshold` tokens a conversation is summed up before it is answered.
    Without one the threshold depends on the model."""

    type: Literal["compaction"]
    compact_threshold: Annotated[int, Meta(ge=1)] | None = None


class ResponseStreamOptions(Struct):
    include_obfuscation: bool | None = None


Includable = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class NamedConversation(Struct, frozen=True):
    """A conversation by its id."""

    id: str


class ResponseRequest(SampledRequest, kw_only=True):
    """The body of POST /v1/responses, and of POST /v1/responses/input_tokens, where only those
    fields count that the prompt depends on. OpenAI does not have `chat_template_kwargs` and the
    fields after it. The last block has the names that chats use; each is refused with a hint to the
    right name."""

    input: str | Annotated[list[Raw], Meta(min_length=1)]
    instructions: str | None = None
    tools: Annotated[list[Raw], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    previous_response_id: str | None = None
    conversation: str | NamedConversation | None = None
    max_output_tokens: MaxTokens | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Includable] | None = None
    metadata: Metadata | None = None
    stream_options: ResponseStreamOptions | None = None
    safety_identifier: str | None = None
    service_tier: ServiceTier | None = None
    store: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    max_tool_calls: NumTokens | None = None
    background: bool | None = None
    prompt: Unsupported = None
    context_management: Annotated[list[ContextManagement], Meta(max_length=10)] | None = None
    moderation: Unsupported = None

    chat_template_kwargs: TemplateVariables | None = None
    thinking_token_budget: NumTokens | None = None
    include_reasoning: bool | None = None
    enable_thinking: bool | None = None

    messages: Unsupported = None
    max_tokens: Unsupported = None
    max_completion_tokens: Unsupported = None
    response_format: Unsupported = None
    reasoning_effort: Unsupported = None
    functions: Unsupported = None
    function_call: Unsupported = None
    logprobs: Unsupported = None
    n: Unsupported = None


decode_response_request = msgspec.json.Decoder(ResponseRequest).decode


class _Tagged(Struct):
    type: str | None = None


T = TypeVar("T", bound=Struct)


def input_items(data: ResponseRequest) -> list[InputItem]:
    """The items of `input`; a plain text is a message of the user. Raises InvalidRequest, which
    names the place of the mistake."""
    if isinstance(data.input, str):
        return [InputMessage(role="user", content=data.input)]
    return items_of(data.input, "input")


def conversation_id_of(data: ResponseRequest) -> str | None:
    """The id of the conversation that the response belongs to; None if there is none."""
    named = data.conversation
    return named.id if isinstance(named, NamedConversation) else named


def raw_items(data: ResponseRequest) -> list[Raw]:
    """The items of `input` as JSON."""
    if isinstance(data.input, str):
        return [Raw(msgspec.json.encode(input_items(data)[0]))]
    return data.input


def tools_of(data: ResponseRequest) -> ResponseTools:
    """The functions of `tools`, and the types of the tools that are none. Raises InvalidRequest,
    which names the place of the mistake."""
    functions, skipped = {}, {}
    for index, raw in enumerate(data.tools or ()):
        where = f"tools[{index}]"
        kind = _type_of(raw, where)
        if kind is None:
            raise _typeless(where)
        if kind == FUNCTION:
            functions[index] = _decode(raw, ResponseTool, where)
        else:
            skipped[index] = kind
    return ResponseTools(functions, skipped)


def items_of(raws: Sequence[Raw], param: str) -> list[Any]:
    """The items that a parameter has as JSON. Raises InvalidRequest, which names the place of the
    mistake."""
    found = []
    for index, raw in enumerate(raws):
        where = f"{param}[{index}]"
        tag = _type_of(raw, where)
        kind = "message" if tag is None else tag
        if kind not in ITEMS:
            _refuse_type(f"{where}.type", kind)
        found.append(_decode(raw, ITEMS[kind], where))
    return found


def _type_of(raw: Raw, where: str) -> str | None:
    return _decode(raw, _Tagged, where).type


def _typeless(where: str) -> InvalidRequest:
    return InvalidRequest(
        f"`{where}.type` is required. Known are `{FUNCTION}`.",
        param=f"{where}.type",
        code="missing_required_parameter",
    )


def _decode(raw: Raw, kind: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except MISTAKES as error:
        raise to_invalid_request(error, kind, where, bytes(raw)) from error


def _refuse_type(param: str, tag: str) -> NoReturn:
    advice = ""
    if tag == "item_reference":
        advice = " Responses are not stored: send the item itself."
    raise InvalidRequest(
        f"`{param}` is `{tag[:64]}`, which this server does not have. It has: {', '.join(ITEMS)}."
        f"{advice}",
        param=param,
        code="unsupported_value",
    )
