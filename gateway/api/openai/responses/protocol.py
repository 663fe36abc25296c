"""Bodies of POST /v1/responses and POST /v1/responses/input_tokens as Structs.

The lists `input` and `tools` are decoded in a second step (`input_items`, `tools_of`): a message
may omit its type there, and this server refuses many of OpenAI's types by name.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.api.openai.protocol.params import (
    CacheSalt,
    LogitBias,
    Metadata,
    NumNewTokens,
    NumTokens,
    Penalty,
    Seed,
    ServiceTier,
    StopString,
    StopStrings,
    StopTokenIds,
    Temperature,
    TemplateVariables,
    TopK,
    TopP,
    Unchecked,
    Unsupported,
)
from gateway.api.openai.protocol.response_format import JSONObjectFormat, TextFormat
from gateway.api.openai.protocol.tools import MAX_TOOLS, FunctionName
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
InputContent = str | Annotated[list[InputPart], Meta(min_length=1)]


class InputMessage(Struct, kw_only=True):
    """A message of the client, or an earlier answer. An item without a `type` is a message."""

    role: Literal["user", "assistant", "system", "developer"]
    content: InputContent
    type: Literal["message"] = "message"


class InputFunctionCall(Struct, kw_only=True):
    """A call that the model made earlier. `arguments` is JSON in a string."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class InputFunctionOutput(Struct, kw_only=True):
    """The result of a function call."""

    type: Literal["function_call_output"]
    call_id: str
    output: InputContent


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


InputItem = InputMessage | InputFunctionCall | InputFunctionOutput | InputReasoning

ITEMS: Mapping[str, type[Struct]] = {
    "message": InputMessage,
    "function_call": InputFunctionCall,
    "function_call_output": InputFunctionOutput,
    "reasoning": InputReasoning,
}


class ResponseTool(Struct, kw_only=True):
    """A function that the model may call. `parameters` is a JSON schema of an object."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: Raw = msgspec.field(default_factory=partial(Raw, b"null"))
    strict: bool | None = None


TOOLS: Mapping[str, type[Struct]] = {"function": ResponseTool}


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
    """`strict` makes no difference: a schema is always enforced."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: Raw
    strict: bool | None = None
    description: str | None = None


ResponseTextFormat = TextFormat | JSONObjectFormat | JSONSchemaTextFormat


class TextOptions(Struct):
    format: ResponseTextFormat | None = None
    verbosity: Unsupported = None


class ReasoningOptions(Struct):
    """The options of the reasoning. `summary` and `generate_summary` have no effect: the answer has
    the whole reasoning."""

    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    mode: Unsupported = None
    context: Unsupported = None


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


class InputTokensRequest(Struct, kw_only=True):
    """The body of POST /v1/responses/input_tokens: the fields that the prompt depends on. Without
    `model` the server's own model is asked."""

    model: str | None = None
    input: str | Annotated[list[Raw], Meta(min_length=1)]
    instructions: str | None = None
    tools: Annotated[list[Raw], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Unsupported = None
    previous_response_id: Unsupported = None
    conversation: Unsupported = None
    chat_template_kwargs: TemplateVariables | None = None


class ResponseRequest(InputTokensRequest, kw_only=True):
    """The body of POST /v1/responses. OpenAI does not have `seed` and the fields after it. The last
    block has the names that chats use; each is refused with a hint to the right name."""

    model: str
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_output_tokens: NumNewTokens | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[Includable] | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: ServiceTier | None = None
    store: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    max_tool_calls: NumTokens | None = None
    background: Unsupported = None
    prompt: Unsupported = None
    context_management: Unsupported = None
    moderation: Unsupported = None

    seed: Seed | None = None
    stop: StopString | StopStrings | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    top_k: TopK | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    min_tokens: NumTokens | None = None
    stop_token_ids: StopTokenIds | None = None
    ignore_eos: bool | None = None
    priority: Unchecked = None
    deadline: float | None = None
    cache_salt: CacheSalt | None = None
    thinking_token_budget: NumTokens | None = None
    include_reasoning: bool | None = None

    messages: Unsupported = None
    max_tokens: Unsupported = None
    max_completion_tokens: Unsupported = None
    response_format: Unsupported = None
    reasoning_effort: Unsupported = None
    verbosity: Unsupported = None
    functions: Unsupported = None
    function_call: Unsupported = None
    logprobs: Unsupported = None
    n: Unsupported = None


decode_response_request = msgspec.json.Decoder(ResponseRequest).decode
decode_input_tokens = msgspec.json.Decoder(InputTokensRequest).decode


class _Tagged(Struct):
    type: str | None = None


T = TypeVar("T", bound=Struct)


def input_items(data: InputTokensRequest) -> list[InputItem]:
    """The items of `input`; a plain text is a message of the user. Raises InvalidRequest, which
    names the place of the mistake."""
    if isinstance(data.input, str):
        return [InputMessage(role="user", content=data.input)]
    items: list[Any] = _read(data.input, ITEMS, "input", default="message")
    return items


def tools_of(data: InputTokensRequest) -> list[ResponseTool]:
    """The functions of `tools`. Raises InvalidRequest, which names the place of a tool that is not
    a function."""
    found: list[Any] = _read(data.tools or (), TOOLS, "tools", default=None)
    return found


def _read(
    raws: Sequence[Raw], kinds: Mapping[str, type[Struct]], field: str, default: str | None
) -> list[Struct]:
    found = []
    for index, raw in enumerate(raws):
        where = f"{field}[{index}]"
        tag = _decode(raw, _Tagged, where).type or default
        if tag is None:
            raise InvalidRequest(
                f"`{where}.type` is required.",
                param=f"{where}.type",
                code="missing_required_parameter",
            )
        if tag not in kinds:
            _refuse_type(f"{where}.type", tag, kinds)
        found.append(_decode(raw, kinds[tag], where))
    return found


def _decode(raw: Raw, kind: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except MISTAKES as error:
        raise to_invalid_request(error, kind, where) from error


def _refuse_type(param: str, tag: str, kinds: Mapping[str, object]) -> None:
    advice = ""
    if tag == "item_reference":
        advice = " Responses are not stored: send the item itself."
    raise InvalidRequest(
        f"`{param}` is `{tag[:64]}`, which this server does not have. It has: {', '.join(kinds)}."
        f"{advice}",
        param=param,
        code="unsupported_value",
    )
