"""Requests that another thread is preparing."""

import time
from concurrent.futures import Future
from typing import Any

from msgspec import Struct

from runtime.messages.request import Request


class _Preparing(Struct, frozen=True):
    request: Request
    preparation: Future[Any]
    since: float


class PreparingRequests:
    """Requests that are not queued yet, each with the future of its preparation."""

    def __init__(self) -> None:
        self._requests: dict[str, _Preparing] = {}
        self._seconds: list[float] = []

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def has_ready(self) -> bool:
        """Whether `take_ready` would return any request."""
        return any(entry.preparation.done() for entry in self._requests.values())

    @property
    def request_ids(self) -> list[str]:
        return list(self._requests)

    def add(self, request: Request, preparation: Future[Any]) -> None:
        assert request.request_id not in self._requests, "request prepared twice: this is a bug"
        self._requests[request.request_id] = _Preparing(request, preparation, time.monotonic())

    def remove(self, request_id: str) -> None:
        """Forget a request; its preparation continues. Unknown ids are ignored."""
        self._requests.pop(request_id, None)

    def take_expired(self, now: float) -> list[Request]:
        """Take out every request whose deadline has passed, except resumed ones."""
        expired = [
            entry.request
            for entry in self._requests.values()
            if 0 < entry.request.deadline <= now and not entry.request.is_resumed
        ]
        for request in expired:
            del self._requests[request.request_id]
        return expired

    def take_ready(self) -> list[tuple[Request, Future[Any]]]:
        """Take out every request whose preparation has ended, in order of arrival, each with its
        preparation."""
        done = [entry for entry in self._requests.values() if entry.preparation.done()]
        for entry in done:
            del self._requests[entry.request.request_id]
            self._seconds.append(time.monotonic() - entry.since)
        return [(entry.request, entry.preparation) for entry in done]

    def take_seconds(self) -> list[float]:
        """The wait in seconds of each request that `take_ready` returned since the last call."""
        seconds, self._seconds = self._seconds, []
        return seconds
