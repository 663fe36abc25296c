"""One model as it is to be served, with all its settings decided."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct, structs

from gateway.settings.schema import LoadTime, ModelSettings, Settings
from gateway.settings.several_models import name_in_api
from runtime.config.engine import EngineConfig
from runtime.config.engines import ENGINES


class ModelSpec(Struct, frozen=True, kw_only=True):
    """A model's name in the API, its file or folder, and its settings.

    `path` is "" for an engine without a model. `load`, `idle_seconds` and `memory_gb` are those of
    its table in the settings. A model that `may_be_pulled` is downloaded when it is loaded.
    """

    name: str
    path: str
    model: ModelSettings
    engine: EngineConfig
    load: LoadTime = "start"
    idle_seconds: float = 0.0
    memory_gb: float | Literal["auto"] = "auto"
    may_be_pulled: bool = False

    @property
    def memory_bytes(self) -> int:
        """`memory_gb` in bytes; 0 if it is to be measured."""
        return 0 if self.memory_gb == "auto" else round(self.memory_gb * 1e9)


def specs_of(settings: Settings, paths: str | Mapping[str, str]) -> list[ModelSpec]:
    """The models of the settings. `paths` are their files or folders by name, or that of the only
    one. The first one answers requests that name no model."""
    if not settings.models:
        path = paths if isinstance(paths, str) else next(iter(paths.values()), "")
        return [_only_model(settings, path)]
    by_name = {} if isinstance(paths, str) else paths
    specs = [
        ModelSpec(
            name=name,
            path=by_name.get(name, "") or model.tokenizer,
            model=model,
            engine=model.engine,
            load=model.load,
            idle_seconds=model.idle_seconds,
            memory_gb=model.memory_gb,
        )
        for name, model in settings.models.items()
    ]
    return sorted(specs, key=lambda spec: spec.load != "start")


def _only_model(settings: Settings, path: str) -> ModelSpec:
    return ModelSpec(
        name=_served_name(settings, path),
        path=path or settings.model.tokenizer,
        model=settings.model,
        engine=settings.engine,
    )


def unlisted_spec(settings: Settings, name: str, path: Path | None) -> ModelSpec:
    """A model that the settings do not name, with the general settings of engines. Without a path
    it has to be pulled."""
    model = structs.replace(settings.model, name_or_path=name, served_name="", tokenizer="")
    return ModelSpec(
        name=name,
        path="" if path is None else str(path),
        model=model,
        engine=settings.engine,
        load="demand",
        may_be_pulled=path is None,
    )


def _served_name(settings: Settings, path: str) -> str:
    """The configured name, else the catalogue name, else the file's stem or the folder's name."""
    if settings.model.served_name:
        return settings.model.served_name
    if not path and ENGINES[settings.engine.name].model_form == "any":
        return str(settings.engine.name)
    return name_in_api(settings.model.name_or_path)
