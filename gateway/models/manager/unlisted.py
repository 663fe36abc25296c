"""Models that requests may name although the settings do not."""

import asyncio

from gateway.models.manager.factory import ModelFactory
from gateway.models.manager.manager import ModelManager
from gateway.models.manager.spec import ModelSpec, unlisted_spec
from gateway.models.pulls.lookup import Lookups, find_by_name
from gateway.models.pulls.wanted import wanted_model
from gateway.models.registry import ModelRegistry
from gateway.settings.schema import Settings
from runtime.config.engines import ENGINES
from runtime.models.store import Model, ModelStore


class UnlistedModels:
    """Serves models by the names that the catalogue or the hub has for them: those on this machine
    if `loading.allow_unlisted` is set, and with `loading.allow_pull` also those that have to be
    pulled first."""

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry,
        manager: ModelManager,
        factory: ModelFactory,
        lookups: Lookups,
    ) -> None:
        self._settings = settings
        self._models = models
        self._manager = manager
        self._factory = factory
        self._lookups = lookups

    async def admit(self, name: str, allowed: ModelRegistry) -> None:
        """Adds the model of this name, if there is one, it is not known yet, and it is among the
        `allowed`. It is loaded when it is held. Raises what `Lookups.check` raises."""
        loading, general = self._settings.loading, self._settings.model
        if not (loading.allow_unlisted or loading.allow_pull) or not allowed.may_use(name):
            return
        if name in self._models.names or (model := self._find(name)) is None:
            return
        if model.is_present:
            self._add(unlisted_spec(self._settings, name, model.path))
        elif loading.allow_pull and not general.offline:
            wanted = await asyncio.to_thread(wanted_model, name, general, self._settings.engine)
            await self._lookups.check(wanted)
            self._add(unlisted_spec(self._settings, name, None))

    def _add(self, spec: ModelSpec) -> None:
        for gone in self._manager.forget_unpulled():
            self._models.remove(gone)
        if spec.name not in self._models.names:  # others may have asked meanwhile
            slot = self._factory.slot(spec)
            self._models.add(slot.model)
            self._manager.add(slot)

    def _find(self, name: str) -> Model | None:
        general = self._settings.model
        found = find_by_name(ModelStore(general.folder, mirrors=general.mirrors), name)
        if found is None or not found.is_present:
            return found
        form = ENGINES[self._settings.engine.name].model_form
        return found if form == "any" or found.is_folder == (form == "folder") else None
