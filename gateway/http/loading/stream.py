"""A stream whose model is still loading."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.errors import ErrorBody
from gateway.generation.writer import KEEP_ALIVE
from gateway.http.route_facts import facts_of
from gateway.observability.request_record import RequestRecord

STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

LastWords = Callable[[Exception, RequestRecord], ErrorBody]
"""The error that the client receives in mid-stream."""


class LoadingStream:
    """Waits for an answer that can only be prepared when its model is there, and then is that
    answer's stream.

    After each `interval` seconds the client gets a comment, so that the connection stays open. What
    fails before the first one is a plain HTTP error.
    """

    def __init__(
        self,
        answer: Coroutine[Any, Any, ASGIApp],
        interval: float,
        last_words: LastWords,
    ) -> None:
        self._answer = answer
        self._interval = interval
        self._last_words = last_words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_record = RequestRecord.of(scope)
        answering = asyncio.create_task(self._answer)
        try:
            await self._comment_until(answering, request_record, send)
            stream = answering.result()
        except Exception as error:
            if not request_record.status:
                raise
            frames = facts_of(scope.get("route_handler")).broken_stream
            body = frames(self._last_words(error, request_record))
            await send({"type": "http.response.body", "body": body, "more_body": False})
        else:
            await stream(scope, receive, send)
        finally:
            answering.cancel()

    async def _comment_until(
        self, answering: "asyncio.Task[ASGIApp]", request_record: RequestRecord, send: Send
    ) -> None:
        while not (await asyncio.wait([answering], timeout=self._interval))[0]:
            if not request_record.status:
                await send(
                    {"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS}
                )
            await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
