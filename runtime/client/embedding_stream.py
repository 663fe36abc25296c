"""The result of an embedding request, for which a handler waits."""

import asyncio
from collections.abc import Callable

from runtime.errors import LockgateError


class EmbeddingStream:
    """The vectors of one embedding request, in the order of its inputs. Single-threaded."""

    def __init__(
        self, request_id: str, num_inputs: int, on_close: Callable[[list[str]], None]
    ) -> None:
        self._request_id = request_id
        self._num_inputs = num_inputs
        self._on_close = on_close
        self._vectors: list[bytes] = []
        self._error: LockgateError | None = None
        self._changed = asyncio.Event()
        self.closed = False

    @property
    def num_vectors(self) -> int:
        """Number of vectors received so far."""
        return len(self._vectors)

    async def result(self) -> list[bytes] | None:
        """All vectors, as in `runtime.messages.wire.Embedded`; None when the stream was closed.
        Raises the error given to `fail`."""
        await self._changed.wait()
        if self._error is not None:
            raise self._error
        return None if self.closed else self._vectors

    def close(self) -> None:
        """Abort an unfinished request. A plain call, idempotent; wakes a waiting reader."""
        if not self._changed.is_set():
            self.closed = True
            self._changed.set()
            self._on_close([self._request_id])

    def push(self, vectors: list[bytes]) -> None:
        """Deliver the next vectors."""
        self._vectors += vectors
        if self.num_vectors == self._num_inputs:
            self._changed.set()

    def fail(self, error: LockgateError) -> list[str]:
        """End with an error. Returns the request's id if it had not ended."""
        if self._changed.is_set():
            return []
        self._error = error
        self._changed.set()
        return [self._request_id]

    def expire(self, error: LockgateError) -> None:
        """End with an error and abort the request if it is unfinished."""
        if unfinished := self.fail(error):
            self._on_close(unfinished)
