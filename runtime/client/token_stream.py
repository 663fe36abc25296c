"""The stream that a handler reads: a mailbox with one slot per request."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from runtime.errors import LockgateError
from runtime.messages.request import RequestOutput, TokenLogprobs
from runtime.messages.structured_output import LeftOut


class TokenStream:
    """Deltas of one or more requests, in the order in which they came.

    A reader that falls behind finds the deltas of a request merged into one: a slow client costs
    no more memory than its answer, and a busy loop fewer wake-ups. Single-threaded.

    `unread` are the deltas that the reader had not fetched when the stream was closed.
    `left_out` are the keywords of the requests' schemas that are not enforced. They are known
    before the first delta.
    """

    def __init__(self, request_ids: Iterable[str], on_close: Callable[[list[str]], None]) -> None:
        self._unfinished = dict.fromkeys(request_ids)
        self._pending: dict[str, RequestOutput] = {}
        self._on_close = on_close
        self._error: LockgateError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False
        self.unread: Sequence[RequestOutput] = ()
        self.left_out: Sequence[LeftOut] = ()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[RequestOutput]:
        """Deltas since the last call, at most one per request. Waits for the first.

        Ends when every request has finished or the stream was closed. Raises the error given to
        `fail`, after the deltas that came before it.
        """
        while not self._pending:
            if self._error is not None:
                raise self._error
            if self.closed or not self._unfinished:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        outputs = list(self._pending.values())
        self._pending.clear()
        return outputs

    def abort(self, request_id: str) -> None:
        """Abort one request if it is unfinished. The stream goes on with the others."""
        if request_id in self._unfinished:
            del self._unfinished[request_id]
            self._pending.pop(request_id, None)
            self._on_close([request_id])

    def close(self) -> None:
        """Abort the unfinished requests. A plain call, idempotent; wakes a waiting reader."""
        self.unread = [*self.unread, *self._pending.values()]
        self._pending.clear()
        if self.closed or (not self._unfinished and self._error is None):
            return
        self.closed = True
        unfinished = list(self._unfinished)
        self._unfinished.clear()
        if unfinished:
            self._on_close(unfinished)
        self._wake()

    def push(self, output: RequestOutput) -> None:
        """Deliver one delta."""
        if output.request_id not in self._unfinished:
            return
        earlier = self._pending.get(output.request_id)
        self._pending[output.request_id] = output if earlier is None else _merge(earlier, output)
        if output.finish_reason is not None:
            del self._unfinished[output.request_id]
        self._wake()

    def fail(self, error: LockgateError) -> list[str]:
        """End with an error. Returns the requests that had not finished."""
        unfinished = list(self._unfinished)
        self._unfinished.clear()
        self._error = error
        self._wake()
        return unfinished

    def expire(self, error: LockgateError) -> None:
        """End with an error and abort the unfinished requests."""
        unfinished = self.fail(error)
        if unfinished:
            self._on_close(unfinished)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _merge(earlier: RequestOutput, later: RequestOutput) -> RequestOutput:
    return RequestOutput(
        later.request_id,
        earlier.token_ids + later.token_ids,
        earlier.text + later.text,
        later.finish_reason,
        later.stop_reason,
        max(earlier.num_cached_tokens, later.num_cached_tokens),
        _joined(earlier.logprobs, later.logprobs),
        earlier.prompt_logprobs or later.prompt_logprobs,
        later.seconds_queued if earlier.seconds_queued is None else earlier.seconds_queued,
    )


def _joined(
    earlier: list[TokenLogprobs] | None, later: list[TokenLogprobs] | None
) -> list[TokenLogprobs] | None:
    if earlier is None or later is None:
        return later if earlier is None else earlier
    return earlier + later
