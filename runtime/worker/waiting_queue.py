"""Requests that wait for a place in the engine: bounded, by priority and fair share."""

import bisect
import heapq
import itertools
from typing import Generic, NamedTuple, Protocol, TypeVar

from runtime.errors import EngineOverloaded
from runtime.fair_share import FairShare
from runtime.messages.request import PRIORITY_STEP


class Waiting(Protocol):
    """The fields of a request that the queue reads; see `messages.request.Request`."""

    @property
    def request_id(self) -> str: ...

    @property
    def priority(self) -> int: ...

    @property
    def tenant(self) -> str: ...

    @property
    def arrival_time(self) -> float: ...

    @property
    def deadline(self) -> float: ...

    @property
    def is_resumed(self) -> bool: ...


R = TypeVar("R", bound=Waiting)


class _Entry(NamedTuple, Generic[R]):
    """A waiting request, ordered by arrival. `order` is unique."""

    arrival_time: float
    order: int
    request: R


class WaitingQueue(Generic[R]):
    """At most `max_num_waiting` requests, plus requests that the engine has preempted.

    The request with the lowest `priority` is next; each `priority_ageing` seconds of waiting raise
    it by one class. Ties go to the tenant that has been served least, then to the first arrival.
    Requests of one priority and tenant form a group in order of arrival, so only the heads of the
    groups are compared. A group is never empty.
    """

    def __init__(self, max_num_waiting: int, priority_ageing: float) -> None:
        self._max_num_waiting = max_num_waiting
        self._priority_ageing = priority_ageing
        self._entries: dict[str, _Entry[R]] = {}
        self._groups: dict[tuple[int, str], list[_Entry[R]]] = {}
        self._deadlines: list[tuple[float, int, str]] = []
        self._orders = itertools.count(1)
        self._share = FairShare()
        self._num_pushed_back = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_pushed_back(self) -> int:
        """Number of waiting requests that the engine has preempted."""
        return self._num_pushed_back

    def push(self, request: R, *, num_free: int = 0) -> None:
        """Queue a request. `num_free` places in the engine count as room.

        Raises EngineOverloaded when there is no room left.
        """
        self.check_room(num_free)
        self.admit(request)

    def check_room(self, num_free: int) -> None:
        """Raises EngineOverloaded when there is no room for one more request. `num_free` is
        negative when more requests are being prepared than places are free."""
        if len(self._entries) >= self._max_num_waiting + num_free:
            raise EngineOverloaded(
                f"{len(self._entries)} requests are waiting already; try again later.",
                retry_after=1.0,
            )

    def admit(self, request: R) -> None:
        """Queue a request that has passed `check_room`."""
        order = next(self._orders)
        self._insert(_Entry(request.arrival_time, order, request))
        if request.deadline > 0 and not request.is_resumed:
            heapq.heappush(self._deadlines, (request.deadline, order, request.request_id))
            self._drop_dead_deadlines()

    def push_back(self, request: R) -> None:
        """Queue a request that the engine has preempted. It is never refused, neither for lack of
        room nor at its deadline, and keeps its place by arrival time."""
        # A negative order puts it before requests of the same arrival time: it was taken out first.
        self._insert(_Entry(request.arrival_time, -next(self._orders), request))
        self._num_pushed_back += 1

    def peek(self, now: float) -> R | None:
        """The next request, which stays in the queue."""
        if not self._groups:
            return None
        heads = [group[0] for group in self._groups.values()]
        return min(heads, key=lambda entry: self._rank(entry, now)).request

    def pop(self, now: float) -> R:
        """Take out the request that `peek` returns. The queue must not be empty."""
        request = self.peek(now)
        assert request is not None, "pop() from an empty queue: this is a bug"
        self.take(request)
        return request

    def take(self, request: R) -> None:
        """Take out a waiting request to serve it, wherever it is in the queue."""
        removed = self.remove(request.request_id)
        assert removed, "a request is served that does not wait: this is a bug"
        self._share.charge(request.tenant, 0.0)  # marks the tenant as active

    def remove(self, request_id: str) -> bool:
        """Take out one request. Returns False when it is not in the queue."""
        entry = self._entries.pop(request_id, None)
        if entry is None:
            return False
        self._num_pushed_back -= entry.order < 0
        key = _group_of(entry.request)
        group = self._groups[key]
        del group[bisect.bisect_left(group, entry)]
        if not group:
            del self._groups[key]
        self._share.leave(entry.request.tenant)
        return True

    def take_expired(self, now: float) -> list[R]:
        """Take out every request whose deadline has passed, except preempted and resumed ones."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline = heapq.heappop(self._deadlines)
            if self._is_alive(deadline):
                expired.append(self._entries[deadline[2]].request)
                self.remove(deadline[2])
        return expired

    def charge(self, tenant: str, num_tokens: float) -> None:
        """Count tokens served to this tenant, which lowers its place among tenants."""
        self._share.charge(tenant, num_tokens)

    def _insert(self, entry: _Entry[R]) -> None:
        request = entry.request
        assert request.request_id not in self._entries, "request queued twice: this is a bug"
        self._entries[request.request_id] = entry
        bisect.insort(self._groups.setdefault(_group_of(request), []), entry)
        self._share.enter(request.tenant)

    def _rank(self, entry: _Entry[R], now: float) -> tuple[float, float, float, int]:
        request = entry.request
        num_classes = max(now - entry.arrival_time, 0.0) // self._priority_ageing
        priority = request.priority - PRIORITY_STEP * num_classes
        return priority, self._share.served(request.tenant), entry.arrival_time, entry.order

    def _is_alive(self, deadline: tuple[float, int, str]) -> bool:
        """Whether the request still waits and has not been preempted since."""
        entry = self._entries.get(deadline[2])
        return entry is not None and entry.order == deadline[1]

    def _drop_dead_deadlines(self) -> None:
        """Drop deadlines of requests that have left, once these are the larger part of the heap."""
        if len(self._deadlines) > 2 * len(self._entries) + 16:
            self._deadlines = [item for item in self._deadlines if self._is_alive(item)]
            heapq.heapify(self._deadlines)


def _group_of(request: Waiting) -> tuple[int, str]:
    return request.priority, request.tenant
