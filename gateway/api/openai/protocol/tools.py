"""Tools in OpenAI's requests, as Structs."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

MAX_TOOLS = 128

FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(Struct, kw_only=True):
    """A function that the model may call. `parameters` is a JSON schema of an object."""

    name: FunctionName
    description: str | None = None
    parameters: Raw = msgspec.field(default_factory=Raw)
    strict: bool | None = None


class FunctionTool(Struct, tag_field="type", tag="function"):
    function: FunctionDefinition


class CustomTool(Struct, tag_field="type", tag="custom"):
    """A tool that is refused, because its input is not JSON."""

    custom: Any = None


Tool = FunctionTool | CustomTool
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
