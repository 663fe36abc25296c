"""Models of the model folder that requests may name although the settings do not."""

from pathlib import Path

from gateway.models.manager.factory import ModelFactory
from gateway.models.manager.manager import ModelManager
from gateway.models.manager.spec import unlisted_spec
from gateway.models.registry import ModelRegistry
from gateway.settings.schema import Settings
from runtime.config.engines import ENGINES
from runtime.errors import SetupError
from runtime.models.store import Model, ModelStore


class UnlistedModels:
    """Serves models by the names that the catalogue or the hub has for them, if
    `loading.allow_unlisted` is set and they are on this machine. Paths are never looked at: a
    request must not choose a file."""

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry,
        manager: ModelManager,
        factory: ModelFactory,
    ) -> None:
        self._settings = settings
        self._models = models
        self._manager = manager
        self._factory = factory

    def admit(self, name: str) -> None:
        """Adds the model of this name, if there is one and it is not known yet. It is loaded when
        it is held."""
        if not self._settings.loading.allow_unlisted or name in self._models.names:
            return
        if (model := self._find(name)) is not None:
            slot = self._factory.slot(unlisted_spec(self._settings, name, model.path))
            self._models.add(slot.model)
            self._manager.add(slot)

    def _find(self, name: str) -> Model | None:
        model = self._settings.model
        try:
            found = ModelStore(model.folder, mirrors=model.mirrors).find(name)
        except SetupError:
            return None
        is_path = found.name != name or (found.entry is None and Path(name).exists())
        form = ENGINES[self._settings.engine.name].model_form
        fits = form == "any" or found.is_folder == (form == "folder")
        return found if found.is_present and fits and not is_path else None
