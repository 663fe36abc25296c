"""The engine of the only model, as far as settings concern it."""

from gateway.models.manager.manager import ModelManager
from gateway.models.manager.slot import Slot
from gateway.settings.schema import Settings


class ManagedEngine:
    """Hands settings over to the model of this slot. Of several models, each keeps its own until
    the next start of the server."""

    def __init__(self, manager: ModelManager, slot: Slot) -> None:
        self._manager = manager
        self._slot = slot

    def use(self, settings: Settings) -> None:
        """Has these settings from the next process on, at the latest."""
        if not settings.models:
            self._manager.use(self._slot.name, settings.model, settings.engine)

    def restart(self) -> None:
        """Replaces the process, or starts one. Requests in flight continue on the next one."""
        self._manager.restart(self._slot.name)

    def replace(self, settings: Settings) -> bool:
        """Replaces the process by one with these settings, if it can load with them. Returns
        whether there was one."""
        return self._manager.replace(self._slot.name, settings.model, settings.engine)
