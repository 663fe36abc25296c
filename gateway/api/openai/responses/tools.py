"""The tools of a response, and whether the model must call one. Pure."""

from gateway.api.openai.responses.protocol import (
    AllowedFunctions,
    ChosenFunction,
    ResponseRequest,
    ResponseTool,
    ResponseToolChoice,
    ResponseTools,
)
from gateway.api.openai.translate.tools import check_needless
from gateway.chat.tools.functions import argument_schema, check_functions, named_functions
from gateway.chat.tools.tool_use import FunctionSpec, Mode, ToolUse


def find_tool_use(data: ResponseRequest, tools: ResponseTools) -> ToolUse | None:
    """The functions that the model may call; None if there are none. Raises InvalidRequest, which
    names the field."""
    choice = data.tool_choice
    if not tools.functions:
        check_needless(choice, "tool_choice", has_tools=bool(tools.skipped))
        return None
    numbered = tools.functions.items()
    functions = tuple(_spec(tool, f"tools[{index}]") for index, tool in numbered)
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
