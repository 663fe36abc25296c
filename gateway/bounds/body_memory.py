"""The memory that the bodies of all requests may take together."""

from collections.abc import Callable
from typing import Any, cast

from gateway.errors import GatewayOverloaded

FREE_BYTES = 65_536
"""A body up to this size is never refused: the connections bound how many there are."""

RETRY_SECONDS = 1.0

_LEASE = "lockgate.body_lease"


class BodyMemory:
    """Counts the bytes of large bodies from the moment they are announced until they are no longer
    needed. `max_bytes` is the most for all of them. `num_refused` counts bodies that were one too
    many. `on_freed` is called when a body is no longer needed."""

    def __init__(self, max_bytes: int, on_freed: Callable[[], None] = lambda: None) -> None:
        self.max_bytes = max_bytes
        self._on_freed = on_freed
        self.num_bytes = 0
        self.num_refused = 0

    def lease(self, scope: Any) -> "BodyLease":
        """A lease for the body of a request, whose ASGI scope keeps it for `give_back`."""
        lease = scope[_LEASE] = BodyLease(self)
        return lease

    def lease_of(self, scope: Any) -> "BodyLease":
        """The lease of a request, which may have had no body."""
        lease = cast(BodyLease | None, scope.get(_LEASE))
        return self.lease(scope) if lease is None else lease

    def take(self, num_bytes: int) -> None:
        """Raises GatewayOverloaded if so many bytes more are too many."""
        if self.num_bytes + num_bytes > self.max_bytes:
            self.num_refused += 1
            raise GatewayOverloaded(
                "This server has as many large bodies in hand as it can hold"
                " (server.max_bodies_bytes). Send the request again.",
                retry_after=RETRY_SECONDS,
            )
        self.num_bytes += num_bytes

    def put_back(self, num_bytes: int) -> None:
        """Gives back bytes that were taken."""
        self.num_bytes -= num_bytes
        if num_bytes:
            self._on_freed()


class BodyLease:
    """What one body holds of the memory; nothing, as long as it is small."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self._num_bytes = 0
        self._num_kept = 0

    def grow_to(self, num_bytes: int) -> None:
        """Holds this much from now on. Raises GatewayOverloaded."""
        if num_bytes > max(FREE_BYTES, self._num_bytes):
            self._memory.take(num_bytes - self._num_bytes)
            self._num_bytes = num_bytes

    def keep(self, num_bytes: int) -> None:
        """So much of the body, or all, is needed until the request is over."""
        self._num_kept = min(num_bytes, self._num_bytes)

    def shrink(self) -> None:
        """Gives back what is not kept. May be called again."""
        self._memory.put_back(self._num_bytes - self._num_kept)
        self._num_bytes = self._num_kept

    def give_back(self) -> None:
        """May be called again."""
        self._num_kept = 0
        self.shrink()


def keep(scope: Any, num_bytes: int) -> None:
    """Leaves so much to the lease of a request when `shrink` ends the rest of it."""
    if (lease := _lease_of(scope)) is not None:
        lease.keep(num_bytes)


def shrink(scope: Any) -> None:
    """Ends the lease of a request whose body is no longer needed, except for what is kept."""
    if (lease := _lease_of(scope)) is not None:
        lease.shrink()


def give_back(scope: Any) -> None:
    """Ends the lease of a request that is over, or of whose body nothing is needed any more."""
    if (lease := _lease_of(scope)) is not None:
        lease.give_back()


def _lease_of(scope: Any) -> BodyLease | None:
    return cast(BodyLease | None, scope.get(_LEASE))
