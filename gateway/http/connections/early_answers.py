"""Answers that a request gets before all of its body has come."""

from collections.abc import Callable
from typing import Any

_CLOSE = (b"connection", b"close")


def close_after_early_answer(cycle: Any, part: Callable[[], None]) -> None:
    """Makes uvicorn's `cycle` of one request end its connection if the client waits for "100
    Continue" and gets the answer instead: nobody could tell whether the body or the next request
    comes then. A connection that ends before the body has come is parted from by `part`."""
    send = cycle.send

    async def send_and_close(message: Any) -> None:
        if message["type"] == "http.response.start" and _waits(cycle):
            others = [(name, value) for name, value in message["headers"] if name != _CLOSE[0]]
            message["headers"] = [*others, _CLOSE]
        await send(message)

    cycle.send = send_and_close
    cycle.transport = _Transport(cycle, part)


def _waits(cycle: Any) -> bool:
    return bool(cycle.waiting_for_100_continue and cycle.more_body and not cycle.body)


class _Transport:
    """The cycle's own, but for the end."""

    def __init__(self, cycle: Any, part: Callable[[], None]) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        if self._cycle.more_body:
            self._part()
        else:
            self._transport.close()
