"""Deadlines of a request: for its body to arrive, and for its answer to be complete."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from litestar.types import Receive

from gateway.errors import BodyTimeout, RequestTimeout
from runtime.errors import LockgateError


class Uploads:
    """The bodies that are on their way. One event loop's."""

    def __init__(self) -> None:
        self._waits: set[asyncio.Timeout] = set()
        self._cut_off: LockgateError | None = None

    def cut_off(self, error: LockgateError) -> None:
        """Waits for no body any more: who reads one gets this error."""
        self._cut_off = error
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())

    def in_time(self, receive: Receive, started: float, seconds: float) -> Receive:
        """Wraps `receive` to raise BodyTimeout if the body is not complete `seconds` after
        `started` (monotonic). The disconnect message that follows the body may come later."""
        is_complete = False

        async def receive_in_time() -> Any:
            nonlocal is_complete
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout(started + seconds - time.monotonic()) as wait:
                    with self._waiting(wait):
                        message = await receive()
            except TimeoutError as error:
                raise self._cut_off or BodyTimeout(
                    f"The body was not complete after {seconds:g} seconds (server.body_timeout)."
                ) from error
            is_complete = not message.get("more_body")
            return message

        return receive_in_time

    @contextmanager
    def _waiting(self, wait: asyncio.Timeout) -> Iterator[None]:
        self._waits.add(wait)
        try:
            yield
        finally:
            self._waits.discard(wait)


@contextmanager
def at_deadline(deadline: float, expire: Callable[[LockgateError], None]) -> Iterator[None]:
    """Calls `expire` once if the block still runs at `deadline` (monotonic, may be infinite)."""
    if deadline == math.inf:
        yield
        return
    error = RequestTimeout(
        "The answer took longer than this server allows (server.request_timeout)."
        " Ask for a shorter one."
    )
    remaining = max(deadline - time.monotonic(), 0.0)
    timer = asyncio.get_running_loop().call_later(remaining, expire, error)
    try:
        yield
    finally:
        timer.cancel()
