"""How the answers of a model are read: which parsers stand behind each other. Pure."""

from gateway.assembler import Reading
from gateway.protocol import ChatCompletionRequest
from gateway.registry import ServedModel


def find_reading(data: ChatCompletionRequest, model: ServedModel) -> Reading | None:
    """The parsers for the answers to this request; None where all text is content, which costs
    nothing."""
    return None
