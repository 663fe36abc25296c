"""One response in the background: its state, its events, and who reads them."""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from gateway.api.openai.conversations.in_responses import OpenConversation
from gateway.api.openai.responses.answers import (
    Compaction,
    Response,
    ResponseCreated,
    ResponseQueued,
)
from gateway.api.openai.responses.items import frame
from gateway.api.openai.responses.writer import ResponseWriter
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.generation.writer import KEEP_ALIVE
from gateway.http.inner.call import InnerCall

NUM_FIRST_EVENTS = 2
"""Events that say that there is such a response, before it is begun."""


class BackgroundRun:
    """`queued` is the response before it is begun. With `keeps_events` the events are kept, so that
    `events[n]` has the sequence number n. `end` is the response at its end, None before.
    `conversation` is the one that it belongs to, once it is begun.

    `is_stored` is set when its end is stored. `on_end` is called once, with the run, when the
    response is complete, has failed or was cancelled.
    """

    def __init__(
        self,
        queued: Response,
        owner: str,
        on_end: Callable[["BackgroundRun"], None],
        *,
        keeps_events: bool,
    ) -> None:
        self.queued = queued
        self.owner = owner
        self.keeps_events = keeps_events
        self.events: list[bytes] = []
        self.end: Response | None = None
        self.conversation: OpenConversation | None = None
        self.is_cancelled = False
        self.is_forgotten = False
        self.is_stored = asyncio.Event()
        self._on_end = on_end
        self._writer: ResponseWriter | None = None
        self._call: InnerCall | None = None
        self._readers: set[asyncio.Event] = set()
        if keeps_events:
            self._add(frame(ResponseCreated(sequence_number=0, response=queued)))
            self._add(frame(ResponseQueued(sequence_number=1, response=queued)))

    @property
    def id(self) -> str:
        return self.queued.id

    def has_ended(self) -> bool:
        """Whether the response is complete, has failed or was cancelled."""
        return self.end is not None

    @property
    def response(self) -> Response:
        """The response as it is now."""
        if self.end is not None:
            return self.end
        return self.queued if self._writer is None else self._writer.so_far("in_progress")

    def call(self) -> InnerCall:
        """The request that makes the response."""
        self._call = InnerCall("/v1/responses", self.owner, self.id, self, self._take)
        return self._call

    def new_writer(
        self,
        response: Response,
        logprobs: ChatLogprobsWriter | None,
        conversation: OpenConversation | None,
        compaction: Compaction | None,
    ) -> ResponseWriter:
        """Begins the response, which is to become this one, and to be added to the conversation."""
        self.conversation = conversation
        begun = replace(response, created_at=self.queued.created_at, background=True)
        num_events = len(self.events) or NUM_FIRST_EVENTS
        self._writer = ResponseWriter(
            begun, logprobs, self.finish, num_events=num_events, compaction=compaction
        )
        return self._writer

    def cancel(self) -> None:
        """Ends the response with what there is of it."""
        self.is_cancelled = True
        if self._call is not None:
            self._call.leave()
        writer = self._writer
        cancelled = replace(self.queued, status="cancelled")
        self.finish(cancelled if writer is None else writer.so_far("cancelled"))

    def forget(self) -> None:
        """Ends the response, which nobody wants to know of any more."""
        self.is_forgotten = True
        self.cancel()

    def finish(self, response: Response) -> None:
        """The response is this one from now on. Only the first end counts."""
        if self.end is None:
            self.end = response
            self._on_end(self)
            self._tell()

    async def until_ended(self, seconds: float) -> None:
        """Returns at the end of the response, or after so many seconds."""
        news = asyncio.Event()
        self.read(news)
        try:
            async with asyncio.timeout(seconds):
                while self.end is None:
                    news.clear()
                    await news.wait()
        except TimeoutError:
            return
        finally:
            self.leave(news)

    def read(self, reader: asyncio.Event) -> None:
        """Sets this event whenever there is something new."""
        self._readers.add(reader)

    def leave(self, reader: asyncio.Event) -> None:
        """Ends what `read` began."""
        self._readers.discard(reader)

    def _take(self, body: bytes) -> None:
        """Keeps the events in a piece of the stream, which ends where an event does."""
        if self.keeps_events and not self.is_cancelled:
            for event in body.split(b"\n\n"):
                if event and not event.startswith(KEEP_ALIVE[:1]):
                    self._add(event + b"\n\n")

    def _add(self, event: bytes) -> None:
        self.events.append(event)
        self._tell()

    def _tell(self) -> None:
        for reader in self._readers:
            reader.set()
