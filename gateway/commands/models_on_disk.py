"""The model store for commands: opened from the settings, with a progress bar for downloads."""

import sys
from pathlib import Path
from typing import Any

from msgspec import structs

from gateway.settings.schema import ModelSettings, Settings
from runtime.config.engine import EngineName
from runtime.config.engines import ENGINES
from runtime.errors import SetupError
from runtime.models.store import Model, ModelStore


def open_store(settings: Settings) -> ModelStore:
    """The store of the model folder and of the mirrors that the settings name."""
    return ModelStore(settings.model.folder, mirrors=settings.model.mirrors)


def one_by_one(settings: Settings) -> list[Settings]:
    """The settings for each model as if it were the only one; its name is the served name."""
    if not settings.models:
        return [settings]
    return [
        structs.replace(
            settings,
            model=ModelSettings(**{**_fields_of(model), "served_name": name}),
            engine=model.engine,
        )
        for name, model in settings.models.items()
    ]


def _fields_of(model: ModelSettings) -> dict[str, Any]:
    return {name: getattr(model, name) for name in ModelSettings.__struct_fields__}


def find_model(settings: Settings) -> Model:
    """The model that the settings name. `SetupError` if the engine cannot load its kind."""
    model = open_store(settings).find(settings.model.name_or_path)
    _check_form(model, settings.engine.name)
    return model


def ensure_model(settings: Settings) -> Model:
    """The model that the settings name, downloaded if it is missing."""
    store = open_store(settings)
    model = find_model(settings)
    if not model.is_present:
        pull_with_progress(store, model.name)
    return store.find(settings.model.name_or_path)


def _check_form(model: Model, engine: EngineName) -> None:
    form = ENGINES[engine].model_form
    if form == "gguf" and model.is_folder:
        raise SetupError(
            f"model.name_or_path: {model.path} is a Hugging Face checkpoint folder, and the engine"
            f" {engine} needs a .gguf file. Name one, or choose another engine with"
            f" --engine {_engine_for('folder')}"
        )
    if form == "folder" and not model.is_folder:
        raise SetupError(
            f"model.name_or_path: {model.name} is a .gguf file, and the engine {engine} needs"
            " a Hugging Face checkpoint folder. Name one, or choose another engine with"
            f" --engine {_engine_for('gguf')}"
        )


def _engine_for(form: str) -> str:
    """The first engine that loads models of this form."""
    return next(name for name, kind in ENGINES.items() if kind.model_form == form)


def pull_with_progress(store: ModelStore, name: str) -> Path:
    """Downloads a model and returns its path. Shows a progress bar on stderr or, without a
    terminal, one line."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from runtime.terminal.console import Console

    console = Console(stderr=True)
    if not console.is_terminal and not store.find(name).is_present:
        print(f"Pulling {name} into {store.folder}", file=sys.stderr, flush=True)
    columns = (
        TextColumn("{task.fields[label]}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None, label=name)

        def show(done: int, total: int, label: str) -> None:
            bar.update(task, completed=done, total=total, label=f"{name}: {label}")

        return store.pull(name, show)
