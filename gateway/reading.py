"""How the answers of a model are read: which parsers stand behind each other. Pure."""

from gateway.assembler import Reading
from gateway.protocol import ChatCompletionRequest
from gateway.reasoning import PreparedThinking
from gateway.registry import ServedModel


def find_reading(
    data: ChatCompletionRequest, model: ServedModel, thinking: PreparedThinking | None
) -> Reading | None:
    """The parsers for the answers to this request; None where all text is content, which costs
    nothing. `thinking` is how these answers think, None where the model does not."""
    if thinking is None:
        return None
    return Reading(thinking.new_parser, new_tracker=thinking.new_tracker)
