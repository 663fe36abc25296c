"""The response to a comparison: waits for the vectors and writes the scores."""

from collections.abc import Awaitable, Callable, Sequence

from litestar.types import Receive, Scope, Send
from msgspec import Struct

from gateway.api.openai.vectors import Vectors
from gateway.generation.writer import encode
from gateway.http.json_response import JSONBytes


class RankingAnswer:
    """An ASGI application. `write` makes the answer of the scores, in the order of the pairs."""

    def __init__(
        self,
        vectors: Vectors,
        score: Callable[[Sequence[bytes]], Awaitable[list[float]]],
        write: Callable[[Sequence[float]], Struct],
    ) -> None:
        self._vectors = vectors
        self._score = score
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        vectors = await self._vectors.compute(scope, receive)
        if vectors is None:
            return  # the client has left
        scores = await self._score(vectors)
        await JSONBytes(encode(self._write(scores)))(scope, receive, send)
