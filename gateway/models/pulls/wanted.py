"""What is to be downloaded, for which engine, and where to."""

from msgspec import Struct

from gateway.settings.schema import ModelSettings
from runtime.config.engine import EngineConfig
from runtime.config.engines import ENGINES
from runtime.models.repositories.pull import Wants
from runtime.models.store import ModelStore
from runtime.planning.room import memory_for_models


class WantedModel(Struct, frozen=True, kw_only=True):
    """A model by its name of the catalogue or of the hub. `memory` is what it may need, in bytes; 0
    is no limit."""

    name: str
    folder: str
    mirrors: tuple[str, ...]
    is_offline: bool
    wants: Wants

    def store(self) -> ModelStore:
        """The store that has it, or gets it."""
        return ModelStore(
            self.folder, mirrors=self.mirrors, is_offline=self.is_offline, wants=self.wants
        )


def wanted_model(
    name: str, model: ModelSettings, engine: EngineConfig, *, any_size: bool = False
) -> WantedModel:
    """The model of this name, in the form that the engine loads and, unless `any_size`, of a size
    that runs here. Looks how much memory there is, which may take a moment."""
    return WantedModel(
        name=name,
        folder=model.folder,
        mirrors=tuple(model.mirrors),
        is_offline=model.offline,
        wants=Wants(
            form=ENGINES[engine.name].model_form, memory=0 if any_size else memory_here(engine)
        ),
    )


def memory_here(engine: EngineConfig) -> int:
    """Bytes that a model may need; 0 for the engine that loads folders, whose memory is planned by
    itself."""
    if ENGINES[engine.name].model_form == "folder":
        return 0
    return memory_for_models(engine.llama_cpp.num_gpu_layers)
