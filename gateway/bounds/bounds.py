"""All bounds of one server."""

from typing import Self

from msgspec import Struct

from gateway.bounds.body_memory import BodyMemory
from gateway.bounds.body_shape import BodyLimits
from gateway.bounds.freed_memory import map_large_blocks
from gateway.bounds.loop_lag import LoopLag
from gateway.bounds.turns import Turns
from gateway.bounds.work_pool import WorkPool
from gateway.settings.schema import ServerSettings


class Bounds(Struct):
    """What the requests of a server share, and must not use up."""

    body_limits: BodyLimits
    body_memory: BodyMemory
    pool: WorkPool
    lag: LoopLag
    turns: Turns

    @classmethod
    def of(cls, settings: ServerSettings) -> Self:
        """The bounds that the settings ask for."""
        map_large_blocks()
        pool = WorkPool()
        return cls(
            body_limits=_body_limits(settings),
            body_memory=BodyMemory(_max_bytes(settings), pool.tidy_later),
            pool=pool,
            lag=LoopLag(),
            turns=Turns(),
        )

    def use(self, settings: ServerSettings) -> None:
        """Has these bounds from the next body on."""
        self.body_limits = _body_limits(settings)
        self.body_memory.max_bytes = _max_bytes(settings)

    def close(self) -> None:
        """Ends what runs beside the requests."""
        self.lag.stop()
        self.pool.close()


def _body_limits(settings: ServerSettings) -> BodyLimits:
    return BodyLimits(settings.max_body_values, settings.max_body_entries)


def _max_bytes(settings: ServerSettings) -> int:
    return max(settings.max_bodies_bytes, settings.max_body_bytes)
