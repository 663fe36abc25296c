"""Tools in OpenAI's requests, as Structs."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

MAX_TOOLS = 128
FUNCTION = "function"
"""The type of the tools that can be offered to a model."""

FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(Struct, kw_only=True):
    """A function that the model may call. `parameters` is a JSON schema of an object."""

    name: FunctionName
    description: str | None = None
    parameters: Raw = msgspec.field(default_factory=Raw)
    strict: bool | None = None


class Tool(Struct, kw_only=True):
    """A tool that the model may call. This server has functions; tools of any other type are
    skipped. Some clients send the function's `strict` beside it."""

    type: Annotated[str, Meta(examples=[FUNCTION])]
    function: FunctionDefinition | None = None
    strict: bool | None = None


Tools = Annotated[list[Tool], Meta(max_length=MAX_TOOLS)]
Functions = Annotated[list[FunctionDefinition], Meta(max_length=MAX_TOOLS)]


class FunctionReference(Struct):
    name: str


class NamedTool(Struct, tag_field="type", tag="function"):
    function: FunctionReference


class NamedCustomTool(Struct, tag_field="type", tag="custom"):
    custom: Any = None


class ToolSubset(Struct):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool | NamedCustomTool], Meta(min_length=1)]


class AllowedTools(Struct, tag_field="type", tag="allowed_tools"):
    allowed_tools: ToolSubset


ToolChoice = Literal["none", "auto", "required"] | NamedTool | NamedCustomTool | AllowedTools
FunctionChoice = Literal["none", "auto"] | FunctionReference
