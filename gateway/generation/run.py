"""Engine outputs: a stream of deltas, or an answer that is complete already."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, Self

from runtime.errors import LockgateError
from runtime.messages.request import RequestOutput


class Deltas(Protocol):
    """The part of `runtime.client.token_stream.TokenStream` that its reader uses."""

    @property
    def closed(self) -> bool: ...

    def __aiter__(self) -> AsyncIterator[list[RequestOutput]]: ...

    async def __anext__(self) -> list[RequestOutput]: ...

    def close(self) -> None: ...

    def expire(self, error: LockgateError) -> None: ...


class FinishedDeltas:
    """Deltas of requests that ask for no tokens: the engine has nothing to do."""

    def __init__(self, request_ids: Sequence[str]) -> None:
        self._outputs = [RequestOutput(request_id, [], "", "length") for request_id in request_ids]
        self.closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[RequestOutput]:
        outputs, self._outputs = self._outputs, []
        if not outputs:
            raise StopAsyncIteration
        return outputs

    def close(self) -> None:
        pass  # nothing is held

    def expire(self, error: LockgateError) -> None:
        pass  # the answer is complete already
