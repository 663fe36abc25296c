"""Which parsers read the answers of a model, and in which order. Pure."""

from collections.abc import Callable
from functools import partial

from gateway.chat.parsing.chain import WithoutReasoning
from gateway.chat.parsing.pieces import Parser
from gateway.chat.reasoning.formats import new_parser
from gateway.chat.reasoning.plan import PreparedThinking
from gateway.chat.tools.tool_constraint import ToolConstraint, make_tool_constraint
from gateway.chat.tools.tool_use import ToolUse
from gateway.generation.events import OutputParsing
from gateway.models.served_model import ServedModel
from runtime.messages.structured_output import StructuredOutput


def find_tool_constraint(
    use: ToolUse | None, model: ServedModel, wanted: StructuredOutput | None
) -> ToolConstraint | None:
    """How the model makes tool calls for this job; None if it makes none. `wanted` is the
    structured output for answers without a call."""
    if use is None:
        return None
    has_tags = "structural_tags" in model.engine.capabilities
    return make_tool_constraint(use, model.tool_dialect, model.tokenizer, wanted, has_tags=has_tags)


def find_parsing(
    calls: ToolConstraint | None, thinking: PreparedThinking | None, *, shows_reasoning: bool
) -> OutputParsing | None:
    """The parsers for the answers to one prompt; None if all text is content, which costs nothing.
    `thinking` describes the reasoning of these answers; None if the model does not reason. The
    client gets the reasoning with `shows_reasoning` only."""
    if calls is None and thinking is None:
        return None
    read = partial(_new_parser, calls, thinking)
    return OutputParsing(
        read if shows_reasoning else partial(_without_reasoning, read),
        "tool_calls" if calls is None else calls.finish_reason,
        None if thinking is None else thinking.new_tracker,
    )


def _new_parser(calls: ToolConstraint | None, thinking: PreparedThinking | None) -> Parser:
    """The reasoning comes first; tool calls are parsed from the rest."""
    call_parser = None if calls is None else calls.new_parser()
    if thinking is not None:
        parses_channels = calls is not None and calls.parses_reasoning
        return new_parser(
            thinking.reasoning_format, thinking.state, call_parser, parses_channels=parses_channels
        )
    assert call_parser is not None, "nothing to look for: this is a bug"
    return call_parser


def _without_reasoning(read: Callable[[], Parser]) -> Parser:
    return WithoutReasoning(read())
