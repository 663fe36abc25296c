"""The memory accounts of several models: who needs what, and what is missing."""

import asyncio
from collections.abc import Mapping

from gateway.models.manager.memory import Footprint, Memory, Need
from gateway.models.manager.runner import LoadFailed
from gateway.models.manager.slot import Slot


class MemoryAccounts:
    """What the models among `slots` need of the `memory`. All together may need `limit` bytes of
    main memory; None means whatever is free. What is measured is noted in the slot."""

    def __init__(self, slots: Mapping[str, Slot], memory: Memory, limit: int | None) -> None:
        self._slots = slots
        self._memory = memory
        self._limit = limit

    async def missing(self, slot: Slot) -> int:
        """Bytes that are missing for a model that is not loaded; 0 or less if it fits."""
        loaded = await self._loaded()
        return await asyncio.to_thread(self._memory.missing, await self._need(slot), loaded)

    async def excess(self) -> int:
        """Bytes by which the loaded models need more than there is; 0 or less if they do not."""
        return await asyncio.to_thread(self._memory.missing, Need(ram=0), await self._loaded())

    async def measure(self) -> None:
        """Looks what the loaded models use."""
        await self._loaded()

    def may_try(self, slot: Slot) -> bool:
        """Whether a model without enough memory is loaded all the same: one that is alone. Its
        engine makes do with what there is. Raises LoadFailed if it is known to need more than all
        models may."""
        if any(other.holds_memory for other in self._slots.values()):
            return False
        self.check_limit(slot)
        return True

    def check_limit(self, slot: Slot) -> None:
        """Raises LoadFailed for a model that is known to be too large even when it is alone."""
        if self._limit is not None and slot.needed_bytes > self._limit:
            raise LoadFailed(
                f"It needs {slot.needed_bytes / 1e9:.2f} GB, and loading.max_memory_gb is"
                f" {self._limit / 1e9:g} GB. Raise that, or lower its engine.max_model_len."
            )

    async def _loaded(self) -> list[Footprint]:
        holders = [slot for slot in self._slots.values() if slot.holds_memory]
        return [await self._footprint(slot) for slot in holders]

    async def _need(self, slot: Slot) -> Need:
        """What a model needs that is not loaded: what it was seen to use, or else an estimate."""
        need = await asyncio.to_thread(self._memory.estimate, slot.spec)
        return Need(ram=slot.needed_bytes or need.ram, gpu=need.gpu)

    async def _footprint(self, slot: Slot) -> Footprint:
        """What a loaded model needs, measured where it can be."""
        pid = slot.runner.pid
        found = await asyncio.to_thread(self._memory.footprint, pid) if pid else None
        if found is None:
            need = await self._need(slot)
            return Footprint(needed=need.ram, gpu_to_take=need.gpu)
        if slot.spec.memory_bytes:
            found = Footprint(needed=slot.spec.memory_bytes, taken=found.taken)
        slot.memory_bytes = found.needed
        return found
