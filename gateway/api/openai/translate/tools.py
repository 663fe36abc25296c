"""The tools of a request, and whether the model must call one. Pure."""

from collections.abc import Iterable
from typing import Any, NoReturn, Protocol

from msgspec import structs

from gateway.api.openai.protocol.tools import (
    FUNCTION,
    AllowedTools,
    FunctionChoice,
    FunctionDefinition,
    FunctionReference,
    NamedCustomTool,
    NamedTool,
    Tool,
    ToolChoice,
)
from gateway.chat.tools.functions import argument_schema, check_functions, named_functions
from gateway.chat.tools.tool_use import FunctionSpec, Mode, ToolUse
from runtime.errors import InvalidRequest


class HasTools(Protocol):
    """The fields of a request that this module reads; all may be None."""

    tools: list[Tool] | None
    tool_choice: ToolChoice | None
    parallel_tool_calls: bool | None
    functions: list[FunctionDefinition] | None
    function_call: FunctionChoice | None


def find_tool_use(data: HasTools) -> ToolUse | None:
    """The functions that the model may call; None if there are none. Raises InvalidRequest, which
    names the field."""
    _check_one_form(data)
    choice_param = "function_call" if data.functions or data.function_call else "tool_choice"
    functions = _legacy_functions(data) if data.functions else _functions(data)
    choice: Any = data.function_call if choice_param == "function_call" else data.tool_choice
    if not functions:
        check_needless(choice, choice_param, has_tools=bool(data.tools))
        return None
    check_functions(functions)
    if choice == "none":
        return None
    mode, names = _mode(choice, choice_param)
    legacy = bool(data.functions)
    return ToolUse(
        functions=functions,
        callable=functions if names is None else named_functions(functions, names, choice_param),
        mode=mode,
        parallel=data.parallel_tool_calls is not False and mode != "named" and not legacy,
        legacy=legacy,
    )


def _check_one_form(data: HasTools) -> None:
    """Raises InvalidRequest for both forms at a time: `functions` is the older name of `tools`."""
    new = "tools" if data.tools else "tool_choice" if data.tool_choice else None
    old = "functions" if data.functions else "function_call" if data.function_call else None
    if (data.tools and old) or (data.functions and new):
        raise InvalidRequest(
            f"`{old}` is an older form of tools and cannot stand beside `{new}`: leave it out.",
            param=old,
        )


def check_needless(choice: Any, param: str, *, has_tools: bool) -> None:
    """Raises InvalidRequest for a choice that needs a function, if there is none. With `has_tools`
    all tools of the request were skipped."""
    if choice in (None, "none", "auto"):
        return
    if has_tools:
        message = f"`{param}` needs a function, and `tools` has none that this server can offer."
    else:
        needed = "functions" if param == "function_call" else "tools"
        message = f"`{param}` is only allowed together with `{needed}`."
    raise InvalidRequest(message, param=param)


def skipped_tools(types: Iterable[tuple[int, str]]) -> dict[str, str]:
    """The tools that are no functions, which come as places in `tools` and types, each with the
    reason why the model is not told of it."""
    return {
        f"tools[{index}]": f"only functions can be called here, and this is a `{kind[:64]}`"
        for index, kind in types
    }


def no_functions(data: HasTools) -> dict[str, str]:
    """The tools of a request that are skipped, with the reasons."""
    numbered = enumerate(data.tools or ())
    return skipped_tools((index, tool.type) for index, tool in numbered if tool.type != FUNCTION)


def _functions(data: HasTools) -> tuple[FunctionSpec, ...]:
    specs = []
    for index, tool in enumerate(data.tools or ()):
        if tool.type == FUNCTION:
            specs.append(_spec(_definition(tool, index), f"tools[{index}].function"))
    return tuple(specs)


def _definition(tool: Tool, index: int) -> FunctionDefinition:
    if tool.function is None:
        param = f"tools[{index}].function"
        message = f"`{param}` is required."
        raise InvalidRequest(message, param=param, code="missing_required_parameter")
    if tool.strict is None:
        return tool.function
    if tool.function.strict not in (None, tool.strict):
        raise InvalidRequest(
            f"`tools[{index}].strict` and `tools[{index}].function.strict` mean the same, and they"
            " differ: send one of them.",
            param=f"tools[{index}].strict",
        )
    return structs.replace(tool.function, strict=tool.strict)


def _legacy_functions(data: HasTools) -> tuple[FunctionSpec, ...]:
    functions = enumerate(data.functions or ())
    return tuple(_spec(item, f"functions[{index}]") for index, item in functions)


def _spec(function: FunctionDefinition, where: str) -> FunctionSpec:
    source = f"{where}.parameters"
    return FunctionSpec(
        name=function.name,
        description=function.description or "",
        arguments=argument_schema(function.parameters, source),
        is_strict=bool(function.strict),
        where=where,
        source=source,
    )


def _mode(choice: Any, param: str) -> tuple[Mode, list[str] | None]:
    """The mode, and the names of the functions that may be called; None for all functions."""
    match choice:
        case None | "auto":
            return "auto", None
        case "required":
            return "required", None
        case NamedTool(FunctionReference(name)) | FunctionReference(name):
            return "named", [name]
        case AllowedTools(subset):
            tools = [tool for tool in subset.tools if isinstance(tool, NamedTool)]
            if len(tools) < len(subset.tools):
                _refuse_custom(f"{param}.allowed_tools.tools")
            return subset.mode, [tool.function.name for tool in tools]
    assert isinstance(choice, NamedCustomTool), "all forms of a choice are known"
    _refuse_custom(f"{param}.type")


def _refuse_custom(param: str) -> NoReturn:
    raise InvalidRequest(
        f"`{param}`: custom tools are not supported by this server; use functions.",
        param=param,
        code="unsupported_value",
    )
