"""The events of a response in the background as a stream, from the beginning or from a place."""

import asyncio

from litestar.types import Receive, Scope, Send

from gateway.api.openai.responses.background.run import BackgroundRun
from gateway.generation.writer import KEEP_ALIVE
from gateway.http.loading.stream import STREAM_HEADERS


class Replay:
    """Sends the events after number `after`, those that have been and those that come. After
    `interval` seconds of silence a comment keeps the connection open. The response goes on if the
    client leaves."""

    def __init__(self, run: BackgroundRun, after: int, interval: float) -> None:
        self._run = run
        self._next = after + 1
        self._interval = interval

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        news = asyncio.Event()
        leaving = asyncio.create_task(_until_left(receive))
        leaving.add_done_callback(lambda _: news.set())
        self._run.read(news)
        try:
            while not leaving.done():
                news.clear()
                is_over = self._run.end is not None
                await self._send_new(send, is_over=is_over)
                if is_over:
                    return
                await self._silence(news, send)
        finally:
            self._run.leave(news)
            leaving.cancel()

    async def _send_new(self, send: Send, *, is_over: bool) -> None:
        new = self._run.events[self._next :]
        self._next += len(new)
        if new or is_over:
            body = b"".join(new)
            await send({"type": "http.response.body", "body": body, "more_body": not is_over})

    async def _silence(self, news: asyncio.Event, send: Send) -> None:
        """Waits for news. The client gets comments meanwhile."""
        while not news.is_set():
            try:
                async with asyncio.timeout(self._interval):
                    await news.wait()
            except TimeoutError:
                await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})


class StoredReplay:
    """Sends the events after number `after` of a response that is over. `events` are all of
    them."""

    def __init__(self, events: bytes, after: int) -> None:
        self._events = [event + b"\n\n" for event in events.split(b"\n\n")[:-1]][after + 1 :]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        for start in range(0, len(self._events), EVENTS_AT_ONCE):
            body = b"".join(self._events[start : start + EVENTS_AT_ONCE])
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


EVENTS_AT_ONCE = 1000


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
