"""A manager of models whose engines and memory are pretended."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from gateway.models.manager.manager import ModelManager
from gateway.models.manager.memory import Footprint, Need
from gateway.models.manager.runner import LoadFailed
from gateway.models.manager.slot import Slot
from gateway.models.manager.spec import ModelSpec
from gateway.models.served_model import ServedModel
from gateway.settings.schema import LoadingSettings, ModelSettings
from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig
from tests.kit.engines import READY

GB = 1_000_000_000


class PretendedRunner:
    """Loads in `seconds`, or fails with `failure` after that time."""

    def __init__(self, client: EngineClient, pid: int, seconds: float) -> None:
        self.client = client
        self.own_pid = pid
        self.seconds = seconds
        self.failure = ""
        self.is_running = False
        self.num_starts = 0
        self.num_restarts = 0
        self.is_abandoned = False
        self.on_start: Callable[[], None] = lambda: None
        self._stopped = asyncio.Event()

    @property
    def pid(self) -> int:
        return self.own_pid if self.is_running else 0

    async def start(self, *, gives_up: bool) -> None:
        assert not self.is_running, "started twice"
        self.is_running = True
        self.on_start()
        self.num_starts += 1
        self._stopped.clear()
        self.client.lost("starting", "It starts.")

    async def loaded(self) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                await self._stopped.wait()
        except TimeoutError:
            if self.failure:
                raise LoadFailed(self.failure) from None
            self.client.connected(lambda _: None, READY)
        else:
            raise LoadFailed("It was stopped.")

    async def stop(self, reason: str, *, has_failed: bool = False) -> None:
        self._stopped.set()
        self.client.lost("failed" if has_failed else "unloaded", reason)
        await asyncio.sleep(0.1)
        self.is_running = False

    def restart(self) -> None:
        self.num_restarts += 1

    def abandon(self) -> None:
        self.is_abandoned = True


class PretendedMemory:
    """Every model needs the `memory_gb` of its spec, 1 GB without, of `limit` bytes in all; None is
    no end. `measured` are the gigabytes of processes, by their numbers."""

    def __init__(self, limit: int | None, measured: Mapping[int, float]) -> None:
        self.limit = limit
        self._measured = measured

    def estimate(self, spec: ModelSpec) -> Need:
        return Need(ram=spec.memory_bytes or GB)

    def footprint(self, pid: int) -> Footprint | None:
        if pid not in self._measured:
            return None
        return Footprint(needed=round(self._measured[pid] * GB))

    def missing(self, need: Need, loaded: Sequence[Footprint]) -> int:
        if self.limit is None:
            return 0
        return need.ram + sum(each.needed for each in loaded) - self.limit


def spec(name: str, *, memory_gb: float | Literal["auto"] = 1.0, **fields: Any) -> ModelSpec:
    engine = EngineConfig(name="scripted", max_num_seqs=2, max_num_waiting=3)
    given = {"load": "demand", **fields}
    return ModelSpec(
        name=name, path="", model=ModelSettings(), engine=engine, memory_gb=memory_gb, **given
    )


def slot(spec: ModelSpec, *, seconds: float = 5.0, pid: int = 1) -> Slot:
    client = EngineClient()
    return Slot(spec, ServedModel(spec.name, client), PretendedRunner(client, pid, seconds))


def manager(
    slots: Sequence[Slot],
    *,
    limit_gb: float | None = None,
    measured: Mapping[int, float] | None = None,
    is_ending: Callable[[], bool] = lambda: False,
    **loading: Any,
) -> ModelManager:
    """Belongs to the loop that runs now, whose time it goes by."""
    limit = None if limit_gb is None else round(limit_gb * GB)
    settings = LoadingSettings(**{"max_memory_gb": limit_gb or "auto", **loading})
    clock = asyncio.get_running_loop().time
    memory = PretendedMemory(limit, measured or {})
    return ModelManager(slots, memory, settings, clock, is_ending=is_ending)


def runner_of(slot: Slot) -> PretendedRunner:
    assert isinstance(slot.runner, PretendedRunner)
    return slot.runner
