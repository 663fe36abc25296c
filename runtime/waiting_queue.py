"""Requests that wait for a place in the engine: bounded, by priority, then by arrival."""

import heapq
import itertools

from runtime.errors import EngineOverloaded
from runtime.request import Request


class WaitingQueue:
    """At most `max_num_waiting` requests; lower `priority` first, equal ones in order of arrival.

    A request is in the queue exactly as long as its id is in `_requests`; what `remove` took out
    leaves a dead entry in the heap, which is dropped when it comes up.
    """

    def __init__(self, max_num_waiting: int) -> None:
        self._max_num_waiting = max_num_waiting
        self._requests: dict[str, Request] = {}
        self._heap: list[tuple[int, int, str]] = []
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._requests)

    def push(self, request: Request, *, num_free: int = 0) -> None:
        """Queue a request. `num_free` places in the engine count as room.

        Raises EngineOverloaded when there is no room left.
        """
        if len(self._requests) >= self._max_num_waiting + num_free:
            raise EngineOverloaded(
                f"{len(self._requests)} requests are waiting already; try again later.",
                retry_after=1.0,
            )
        self._requests[request.request_id] = request
        entry = (request.priority, next(self._arrivals), request.request_id)
        heapq.heappush(self._heap, entry)

    def peek(self) -> Request | None:
        """The request that is next, left in its place."""
        while self._heap:
            request = self._requests.get(self._heap[0][2])
            if request is not None:
                return request
            heapq.heappop(self._heap)
        return None

    def pop(self) -> Request:
        """Take out the request that `peek` shows. The queue must not be empty."""
        request = self.peek()
        assert request is not None, "pop() from an empty queue: this is a bug"
        heapq.heappop(self._heap)
        del self._requests[request.request_id]
        return request

    def remove(self, request_id: str) -> bool:
        """Take out one request wherever it stands. False when it is not here."""
        return self._requests.pop(request_id, None) is not None
