"""Turns of the event loop for bodies that are small enough to be worked on in the loop itself.

Many of them may be complete at once, and the loop would look at nothing else until it has decoded,
rendered and tokenized them all.
"""

import asyncio
from collections import deque

BYTES_A_TURN = 65_536
"""Bytes of bodies that one turn works on, which takes about 10 ms."""

LEAST_BYTES = 4096
"""What a shorter body counts: a request has its price without any text."""


class Turns:
    """Belongs to one event loop. In each of its turns as much begins as fits into `BYTES_A_TURN`,
    in the order in which it came, and one piece of work in any case."""

    def __init__(self) -> None:
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def num_waiting(self) -> int:
        """How many wait for a later turn."""
        return len(self._waiting)

    async def wait(self, num_bytes: int) -> None:
        """Comes back in the turn in which work on so many bytes may be done."""
        weight = max(num_bytes, LEAST_BYTES)
        loop = asyncio.get_running_loop()
        if not self._waiting and self._fits(weight):
            if not self._used:
                loop.call_soon(self._next_turn)
            self._used += weight
            return
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append((weight, place))
        await place

    def _fits(self, weight: int) -> bool:
        return not self._used or self._used + weight <= BYTES_A_TURN

    def _next_turn(self) -> None:
        self._used = 0
        while self._waiting and self._fits(self._waiting[0][0]):
            weight, place = self._waiting.popleft()
            if not place.done():  # its client has not left
                place.set_result(None)
                self._used += weight
        if self._used:
            asyncio.get_running_loop().call_soon(self._next_turn)
