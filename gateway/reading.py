"""How the answers of a model are read: which parsers stand behind each other. Pure."""

from gateway.assembler import Reading
from gateway.call_plan import CallPlan, make_call_plan
from gateway.registry import ServedModel
from gateway.tool_choice import ToolUse
from runtime import StructuredOutput

_ENGINES_WITHOUT_TAGS = ("tensorrt_llm",)
"""Engines whose grammars cannot make an answer begin with a call in the model's own way."""


def find_calls(
    use: ToolUse | None, model: ServedModel, wanted: StructuredOutput | None
) -> CallPlan | None:
    """How calls of tools are had from this model; None where there are none."""
    if use is None:
        return None
    info = model.client.info
    has_tags = info is None or info.engine not in _ENGINES_WITHOUT_TAGS
    return make_call_plan(use, model.tool_dialect, model.tokenizer, wanted, has_tags=has_tags)


def find_reading(calls: CallPlan | None) -> Reading | None:
    """The parsers for the answers to one request; None where all text is content, which costs
    nothing."""
    return None if calls is None else Reading(calls.new_parser, calls.finish_reason)
