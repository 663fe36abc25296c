"""The fields of other servers inside messages, tools and items: one table for all endpoints.

What no table names changes nothing that is said, or nobody knows: it is taken and reported.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from gateway.api.openai.fields.fates import Fate, Refused, Repeated
from gateway.api.openai.protocol.messages import (
    AssistantMessage,
    DeveloperMessage,
    FunctionCall,
    FunctionMessage,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    ToolResultBlock,
    UserMessage,
)
from gateway.api.openai.protocol.tools import FunctionDefinition, Tool
from gateway.api.openai.ranking.protocol import TextDocument
from gateway.api.openai.responses.protocol import (
    InputCompaction,
    InputFunctionCall,
    InputFunctionOutput,
    InputMessage,
    InputReasoning,
    InputText,
    OutputText,
    ReasoningOptions,
    Refusal,
    ResponseTool,
)

_EMPTY: tuple[Any, ...] = (False, "", [], {})
_NO_MEDIA = Refused(_EMPTY, "This server takes text.")
_OF_ASSISTANT = Refused(_EMPTY, "It belongs into a message of the role `assistant`.")
_OF_TOOL = Refused((False,), "Say it in `content`.")
_CONTINUES = Refused((False,), "It belongs into the last message, which is the assistant's.")
_IN_PARAMETERS = Refused(_EMPTY, "Send a JSON schema in `parameters`.")
_IN_FUNCTION = Refused(_EMPTY, "Send it in `function`.")
_AS_ITEM = Refused(_EMPTY, "Send an item of the type `function_call`.")


def _same(fate: Fate, names: str) -> Mapping[str, Fate]:
    return dict.fromkeys(names.split(), fate)


MEDIA: Mapping[str, Fate] = _same(
    _NO_MEDIA,
    """
    image images image_url image_urls image_data input_image audio audios audio_url audio_data
    input_audio video videos video_url video_data file files file_id file_ids file_data input_file
    attachments documents media inline_data
    """,
)
"""Contents beside the text."""

_OTHER_ROLES: Mapping[str, Fate] = {
    **_same(_OF_ASSISTANT, "tool_calls function_call reasoning_content reasoning thinking refusal"),
    **_same(_CONTINUES, "prefix partial continue_final_message"),
    **MEDIA,
}
_FUNCTION: Mapping[str, Fate] = _same(
    _IN_PARAMETERS,
    """
    input_schema inputSchema parameters_json_schema parametersJsonSchema json_schema schema
    properties required arguments args
    """,
)
_ITEM: Mapping[str, Fate] = _same(Repeated(), "id status")


def _all(
    kinds: Iterable[type[Struct]], fates: Mapping[str, Fate]
) -> Mapping[type[Struct], Mapping[str, Fate]]:
    """The fates of what these objects do not declare."""
    return {
        kind: {name: fate for name, fate in fates.items() if name not in kind.__struct_fields__}
        for kind in kinds
    }


INSIDE: Mapping[type[Struct], Mapping[str, Fate]] = {
    **_all((DeveloperMessage, SystemMessage, UserMessage), _OTHER_ROLES),
    **_all((ToolMessage, FunctionMessage), {**_OTHER_ROLES, "is_error": _OF_TOOL}),
    **_all(
        (AssistantMessage,),
        {**MEDIA, "continue_final_message": _CONTINUES, "annotations": Repeated()},
    ),
    **_all((TextPart, RefusalPart, ToolResultBlock, InputText, Refusal, TextDocument), MEDIA),
    OutputText: {**MEDIA, "annotations": Repeated(), "logprobs": Repeated()},
    ToolCall: {"index": Repeated()},
    FunctionCall: {"parsed_arguments": Repeated()},
    Tool: dict.fromkeys(("name", "description", "parameters", *_FUNCTION), _IN_FUNCTION),
    **_all((FunctionDefinition, ResponseTool), _FUNCTION),
    InputMessage: {
        **_ITEM,
        **MEDIA,
        "phase": Repeated(),
        **_same(_AS_ITEM, "tool_calls function_call"),
        **_same(Refused((False,), "A response begins a message."), "prefix partial"),
    },
    InputFunctionCall: _ITEM,
    InputFunctionOutput: {**_ITEM, **MEDIA, "is_error": Refused((False,), "Say it in `output`.")},
    InputReasoning: {**_ITEM, "encrypted_content": Repeated()},
    InputCompaction: {**_ITEM, "created_by": Repeated()},
    ReasoningOptions: {
        "max_tokens": Refused(advice="Send `thinking_token_budget`."),
        "exclude": Refused((False,), "Send `include_reasoning: false`."),
        "enabled": Refused(advice="Send `enable_thinking`."),
    },
}
"""The fates of undeclared fields by the object that they are in."""
