"""The response to a comparison: submits the request, waits for the engine and writes the scores."""

from collections.abc import Awaitable, Callable, Sequence

from litestar.types import Receive, Scope, Send
from msgspec import Struct

from gateway.generation.timeline import EmbeddingTimeline
from gateway.generation.writer import encode
from gateway.http.json_response import JSONBytes
from gateway.http.streaming import until_over
from gateway.models.served_model import ServedModel
from gateway.observability.request_record import RequestRecord
from runtime.messages.embedding import EmbeddingRequest as EngineRequest


class RankingAnswer:
    """An ASGI application. `write` makes the answer of the scores, in the order of the pairs."""

    def __init__(
        self,
        model: ServedModel,
        request: EngineRequest,
        timeline: EmbeddingTimeline,
        score: Callable[[Sequence[bytes]], Awaitable[list[float]]],
        write: Callable[[Sequence[float]], Struct],
    ) -> None:
        self._model = model
        self._request = request
        self._timeline = timeline
        self._score = score
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_record = RequestRecord.of(scope)
        stream = self._model.engine.embed(self._request)
        request_record.answer = self._timeline.record
        with self._timeline, until_over(receive, stream, request_record.deadline):
            vectors = await stream.result()
            if vectors is None:
                return  # the client has left
            self._timeline.finish()
        scores = await self._score(vectors)
        await JSONBytes(encode(self._write(scores)))(scope, receive, send)
