"""The gateway's state of a request in flight, from which the request can be resubmitted."""

import msgspec

from runtime.client.embedding_stream import EmbeddingStream
from runtime.client.token_stream import TokenStream
from runtime.messages.embedding import EmbeddingRequest
from runtime.messages.request import Request
from runtime.messages.wire import Embed, Submit


class InFlight:
    """A request that generates, with the tokens its client already has."""

    def __init__(self, request: Request, stream: TokenStream) -> None:
        self.request = request
        self.stream = stream
        self.output_token_ids: list[int] = []
        self.is_submitted = False
        self.num_new_tokens = 0  # from the current engine

    @property
    def has_begun(self) -> bool:
        """Whether a part of it has come."""
        return bool(self.output_token_ids)

    @property
    def waiting_tokens(self) -> int:
        """Number of prompt tokens; 0 once the answer has begun."""
        return 0 if self.output_token_ids else len(self.request.prompt_token_ids)

    def message(self) -> Submit:
        """The message that asks an engine for the rest of the answer."""
        output_token_ids = self.request.output_token_ids + self.output_token_ids
        return Submit(msgspec.structs.replace(self.request, output_token_ids=output_token_ids))


class EmbeddingInFlight:
    """An embedding request, with the vectors received so far."""

    def __init__(self, request: EmbeddingRequest, stream: EmbeddingStream) -> None:
        self.request = request
        self.stream = stream
        self.is_submitted = False
        self.num_new_tokens = 0  # of inputs whose vectors came from the current engine
        self.waiting_tokens = request.num_tokens

    @property
    def has_begun(self) -> bool:
        """Whether a part of it has come."""
        return self.stream.num_vectors > 0

    def message(self) -> Embed:
        """The message that asks an engine for the missing vectors."""
        num_done = self.stream.num_vectors
        if not num_done:
            return Embed(self.request)
        rest = self.request.inputs[num_done:]
        return Embed(msgspec.structs.replace(self.request, inputs=rest, is_resumed=True))

    def push(self, vectors: list[bytes]) -> bool:
        """Deliver vectors. Returns whether they complete the request."""
        done = self.stream.num_vectors
        inputs = self.request.inputs[done : done + len(vectors)]
        self.num_new_tokens += sum(map(len, inputs))
        self.stream.push(vectors)
        return self.stream.num_vectors == len(self.request.inputs)
