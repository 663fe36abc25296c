"""The gateway's state of a request in flight, from which the request can be resubmitted."""

import msgspec

from runtime.client.embedding_stream import EmbeddingStream
from runtime.client.token_stream import TokenStream
from runtime.messages.embedding import EmbeddingRequest
from runtime.messages.request import Request
from runtime.messages.wire import Embed, Submit, without_times


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

    def message(self, now: float) -> Submit:
        """The message, sent `now`, that asks an engine for the rest of the answer."""
        output_token_ids = self.request.output_token_ids + self.output_token_ids
        rest = msgspec.structs.replace(self.request, output_token_ids=output_token_ids)
        return Submit(*without_times(rest, now))


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

    def message(self, now: float) -> Embed:
        """The message, sent `now`, that asks an engine for the missing vectors."""
        request, num_done = self.request, self.stream.num_vectors
        if num_done:
            rest = request.inputs[num_done:]
            request = msgspec.structs.replace(request, inputs=rest, is_resumed=True)
        return Embed(*without_times(request, now))

    def push(self, vectors: list[bytes]) -> bool:
        """Deliver vectors. Returns whether they complete the request."""
        done = self.stream.num_vectors
        inputs = self.request.inputs[done : done + len(vectors)]
        self.num_new_tokens += sum(map(len, inputs))
        self.stream.push(vectors)
        return self.stream.num_vectors == len(self.request.inputs)
