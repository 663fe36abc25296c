"""The tools of a response, and whether the model must call one. Pure."""

from collections.abc import Sequence

from gateway.api.openai.responses.protocol import (
    AllowedFunctions,
    ChosenFunction,
    ResponseRequest,
    ResponseTool,
    ResponseToolChoice,
)
from gateway.chat.tools.functions import argument_schema, check_functions, named_functions
from gateway.chat.tools.tool_use import FunctionSpec, Mode, ToolUse
from runtime.errors import InvalidRequest


def find_tool_use(data: ResponseRequest, tools: Sequence[ResponseTool]) -> ToolUse | None:
    """The functions that the model may call; None if there are none. Raises InvalidRequest, which
    names the field."""
    choice = data.tool_choice
    if not tools:
        _check_needless(choice)
        return None
    functions = tuple(_spec(tool, f"tools[{index}]") for index, tool in enumerate(tools))
    check_functions(functions)
    if choice == "none":
        return None
    mode, names = _mode(choice)
    return ToolUse(
        functions=functions,
        callable=functions if names is None else named_functions(functions, names, "tool_choice"),
        mode=mode,
        parallel=data.parallel_tool_calls is not False and mode != "named",
    )


def _spec(tool: ResponseTool, where: str) -> FunctionSpec:
    source = f"{where}.parameters"
    return FunctionSpec(
        name=tool.name,
        description=tool.description or "",
        arguments=argument_schema(tool.parameters, source),
        is_strict=bool(tool.strict),
        where=where,
        source=source,
    )


def _check_needless(choice: ResponseToolChoice | None) -> None:
    if choice not in (None, "none", "auto"):
        raise InvalidRequest(
            "`tool_choice` is only allowed together with `tools`.", param="tool_choice"
        )


def _mode(choice: ResponseToolChoice | None) -> tuple[Mode, list[str] | None]:
    """The mode, and the names of the functions that may be called; None for all functions."""
    match choice:
        case ChosenFunction(name):
            return "named", [name]
        case AllowedFunctions(mode, chosen):
            return mode, [each.name for each in chosen]
        case "required":
            return "required", None
    return "auto", None
