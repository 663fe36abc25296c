"""The tools that a model may call, and whether it must call one."""

from typing import Any, Literal

from msgspec import Struct

Mode = Literal["auto", "required", "named"]


class ArgumentSchema(Struct, frozen=True):
    """The JSON schema of a function's arguments, an object. `closed` is the schema that forbids
    properties without a name; `closed_text` is its JSON. Requests share these values: nothing may
    change them."""

    schema: dict[str, Any]
    closed: dict[str, Any]
    closed_text: str


class FunctionSpec(Struct, frozen=True):
    """A checked function. `where` is the function's place in the request, and `source` that of the
    schema of its arguments; errors name them."""

    name: str
    description: str
    arguments: ArgumentSchema
    is_strict: bool
    where: str
    source: str


class ToolUse(Struct, frozen=True, kw_only=True):
    """`functions` are all functions that the prompt shows; `callable` are the ones that the model
    may call now. With `legacy` the client uses `functions`, and gets a `function_call`."""

    functions: tuple[FunctionSpec, ...]
    callable: tuple[FunctionSpec, ...]
    mode: Mode
    parallel: bool
    legacy: bool = False

    @property
    def must_call(self) -> bool:
        return self.mode != "auto"

    @property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """The schemas of the arguments of the functions that the model may call now."""
        return {function.name: function.arguments.closed for function in self.callable}

    def as_template_tools(self) -> list[dict[str, Any]]:
        """The tools in the form that chat templates take."""
        return [
            {
                "type": "function",
                "function": {
                    "name": function.name,
                    "description": function.description,
                    "parameters": function.arguments.schema,
                },
            }
            for function in self.functions
        ]
