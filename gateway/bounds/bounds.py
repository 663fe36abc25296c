"""All bounds of one server."""

from typing import Self

from msgspec import Struct

from gateway.bounds.body_memory import BodyMemory
from gateway.bounds.body_shape import BodyLimits
from gateway.bounds.loop_lag import LoopLag
from gateway.bounds.work_pool import WorkPool
from gateway.settings.schema import ServerSettings


class Bounds(Struct, frozen=True):
    """What the requests of a server share, and must not use up."""

    body_limits: BodyLimits
    body_memory: BodyMemory
    pool: WorkPool
    lag: LoopLag

    @classmethod
    def of(cls, settings: ServerSettings) -> Self:
        """The bounds that the settings ask for."""
        pool = WorkPool()
        max_bytes = max(settings.max_bodies_bytes, settings.max_body_bytes)
        return cls(
            body_limits=BodyLimits(settings.max_body_values, settings.max_body_entries),
            body_memory=BodyMemory(max_bytes, pool.tidy_later),
            pool=pool,
            lag=LoopLag(),
        )

    def close(self) -> None:
        """Ends what runs beside the requests."""
        self.lag.stop()
        self.pool.close()
