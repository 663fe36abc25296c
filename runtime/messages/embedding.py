"""A request for embeddings, or for a reranker's scores, as it crosses the border."""

from msgspec import Struct


class EmbeddingRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Texts to turn into vectors, one for each of `inputs` (token ids, none of them empty). For a
    reranker each text is a query and a document, and its vector is one number, the score.

    The other fields are those of `Request`. When `is_resumed`, `inputs` holds only the texts
    whose vectors the gateway has not received.
    """

    request_id: str
    inputs: list[list[int]]
    is_resumed: bool = False
    priority: int = 0
    tenant: str = ""
    arrival_time: float = 0.0
    deadline: float = 0.0

    @property
    def num_tokens(self) -> int:
        """Number of tokens of all inputs together."""
        return sum(map(len, self.inputs))
