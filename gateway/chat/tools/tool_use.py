"""Which tools a model may call, and whether it has to."""

from typing import Any, Literal

from msgspec import Struct

Mode = Literal["auto", "required", "named"]


class FunctionSpec(Struct, frozen=True):
    """A function, checked. `schema` is that of its arguments, an object; `source` is where the
    request has it."""

    name: str
    description: str
    schema: dict[str, Any]
    is_strict: bool
    source: str


class ToolUse(Struct, frozen=True, kw_only=True):
    """`functions` are all that the model is told of; `callable` are those that it may call now.
    With `legacy` the client speaks of functions, and gets a `function_call`."""

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
        """As chat templates want them."""
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
