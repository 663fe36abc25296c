"""Which tools a request has, and whether one has to be called. Pure."""

from typing import Any, NoReturn, Protocol

import msgspec
from msgspec import Raw

from gateway.api.openai.protocol.response_format import MAX_LENGTH
from gateway.api.openai.protocol.tools import (
    AllowedTools,
    CustomTool,
    FunctionChoice,
    FunctionDefinition,
    FunctionReference,
    NamedCustomTool,
    NamedTool,
    Tool,
    ToolChoice,
)
from gateway.chat.tools.tool_use import (
    FunctionSpec,
    Mode,
    ToolUse,
)
from runtime.errors import InvalidRequest


class HasTools(Protocol):
    """The fields of a request that this module reads; all may be None."""

    tools: list[Tool] | None
    tool_choice: ToolChoice | None
    parallel_tool_calls: bool | None
    functions: list[FunctionDefinition] | None
    function_call: FunctionChoice | None


def find_tool_use(data: HasTools) -> ToolUse | None:
    """What may be called; None where nothing is. Raises InvalidRequest, which names the field."""
    _check_one_form(data)
    choice_param = "function_call" if data.functions or data.function_call else "tool_choice"
    functions = _legacy_functions(data) if data.functions else _functions(data)
    choice: Any = data.function_call if choice_param == "function_call" else data.tool_choice
    if not functions:
        _check_needless(choice, choice_param)
        return None
    _check_names(functions)
    if choice == "none":
        return None
    mode, names = _mode(choice, choice_param)
    legacy = bool(data.functions)
    return ToolUse(
        functions=functions,
        callable=functions if names is None else _named(functions, names, choice_param),
        mode=mode,
        parallel=data.parallel_tool_calls is not False and mode != "named" and not legacy,
        legacy=legacy,
    )


def _check_one_form(data: HasTools) -> None:
    """`functions` are what `tools` were called before: only one of them at a time."""
    new = "tools" if data.tools else "tool_choice" if data.tool_choice else None
    old = "functions" if data.functions else "function_call" if data.function_call else None
    if (data.tools and old) or (data.functions and new):
        raise InvalidRequest(
            f"`{old}` is an older form of tools and cannot stand beside `{new}`: leave it out.",
            param=old,
        )


def _check_needless(choice: Any, param: str) -> None:
    if choice not in (None, "none", "auto"):
        tools = "functions" if param == "function_call" else "tools"
        raise InvalidRequest(f"`{param}` is only allowed together with `{tools}`.", param=param)


def _functions(data: HasTools) -> tuple[FunctionSpec, ...]:
    specs = []
    for index, tool in enumerate(data.tools or ()):
        if isinstance(tool, CustomTool):
            _refuse_custom(f"tools[{index}].type")
        specs.append(_spec(tool.function, f"tools[{index}].function"))
    return _checked_length(specs)


def _legacy_functions(data: HasTools) -> tuple[FunctionSpec, ...]:
    functions = enumerate(data.functions or ())
    return _checked_length([_spec(item, f"functions[{index}]") for index, item in functions])


def _spec(function: FunctionDefinition, where: str) -> FunctionSpec:
    source = f"{where}.parameters"
    return FunctionSpec(
        function.name,
        function.description or "",
        _schema(function, source),
        bool(function.strict),
        source,
    )


def _schema(function: FunctionDefinition, source: str) -> dict[str, Any]:
    if bytes(function.parameters) in (b"", b"null"):
        return {"type": "object", "properties": {}}
    schema = _decode(function.parameters, source)
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise InvalidRequest(
            f'`{source}` has to be a JSON schema of an object, with `type` "object".',
            param=source,
            code="invalid_function_parameters",
        )
    return {"type": "object", **schema}


def _decode(raw: Raw, source: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except RecursionError as error:
        raise InvalidRequest(f"`{source}` is nested too deeply.", param=source) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"`{source}` is not valid JSON: {error}.", param=source) from error


def _checked_length(specs: list[FunctionSpec]) -> tuple[FunctionSpec, ...]:
    length = sum(len(msgspec.json.encode(spec.schema)) for spec in specs)
    if length > MAX_LENGTH:
        raise InvalidRequest(
            f"The schemas of all tools together are too long: {length} characters, and at most"
            f" {MAX_LENGTH} are read.",
            param="tools",
        )
    return tuple(specs)


def _check_names(functions: tuple[FunctionSpec, ...]) -> None:
    seen: set[str] = set()
    for function in functions:
        if function.name in seen:
            param = function.source.removesuffix("parameters") + "name"
            raise InvalidRequest(
                f"`{param}` is `{function.name}`, which an earlier tool is called already.",
                param=param,
                code="invalid_value",
            )
        seen.add(function.name)


def _mode(choice: Any, param: str) -> tuple[Mode, list[str] | None]:
    """How, and which functions; None for all of them."""
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


def _named(
    functions: tuple[FunctionSpec, ...], names: list[str], param: str
) -> tuple[FunctionSpec, ...]:
    by_name = {function.name: function for function in functions}
    for name in names:
        if name not in by_name:
            raise InvalidRequest(
                f"`{param}` names the function `{name}`, which is not among the tools.",
                param=param,
                code="invalid_value",
            )
    return tuple(by_name[name] for name in dict.fromkeys(names))


def _refuse_custom(param: str) -> NoReturn:
    raise InvalidRequest(
        f"`{param}`: custom tools are not supported by this server; use functions.",
        param=param,
        code="unsupported_value",
    )
