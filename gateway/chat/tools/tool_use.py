"""The tools that a model may call, and whether it must call one."""

from typing import Any, Literal

from msgspec import Struct

Mode = Literal["auto", "required", "named"]


class FunctionSpec(Struct, frozen=True):
    """A checked function. `schema` is the schema of its arguments, an object. `source` is its place
    in the request."""

    name: str
    description: str
    schema: dict[str, Any]
    is_strict: bool
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
    def names(self) -> frozenset[str]:
        return frozenset(function.name for function in self.callable)

    def as_template_tools(self) -> list[dict[str, Any]]:
        """The tools in the form that chat templates take."""
        return [
            {
                "type": "function",
                "function": {
                    "name": function.name,
                    "description": function.description,
                    "parameters": function.schema,
                },
            }
            for function in self.functions
        ]
