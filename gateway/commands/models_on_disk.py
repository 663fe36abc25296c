"""The model store for commands: opened from the settings, with a progress bar for downloads."""

import sys
from pathlib import Path
from typing import Any

from msgspec import structs

from gateway.models.manager.files import check_form
from gateway.models.pulls.wanted import memory_here
from gateway.settings.schema import ModelSettings, Settings
from runtime.config.engines import ENGINES
from runtime.models.repositories.listing import Form
from runtime.models.repositories.pull import Wants
from runtime.models.store import Model, ModelStore
from runtime.terminal.progress_lines import ProgressLines


def open_store(
    settings: Settings, *, any_size: bool = False, form: Form | None = None
) -> ModelStore:
    """The store of the model folder and of the mirrors that the settings name. Its models are of
    this form, or of the one that the engine loads; with `any_size` those that are too large for
    this machine, too."""
    return ModelStore(
        settings.model.folder,
        mirrors=settings.model.mirrors,
        is_offline=settings.model.offline,
        wants=Wants(
            form=form or ENGINES[settings.engine.name].model_form,
            memory=0 if any_size else memory_here(settings.engine),
        ),
    )


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
    """The model that the settings name; the hub is asked for one that is not here. `SetupError` if
    there is none, or if the engine cannot load its kind."""
    model = open_store(settings).look_up(settings.model.name_or_path)
    check_form(model, settings.engine.name)
    return model


def ensure_model(settings: Settings) -> Model:
    """The model that the settings name, downloaded if it is missing."""
    store = open_store(settings)
    model = find_model(settings)
    if not model.is_present:
        pull_with_progress(store, settings.model.name_or_path)
    return store.find(settings.model.name_or_path)


def pull_with_progress(store: ModelStore, name: str) -> Path:
    """Downloads a model and returns its path. Shows a progress bar on stderr or, without a
    terminal, a line now and then."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from runtime.terminal.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        if not store.find(name).is_present:
            print(f"Pulling {name} into {store.folder_of(name)}", file=sys.stderr, flush=True)
        return store.pull(name, ProgressLines())
    columns = (
        TextColumn("{task.fields[label]}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(name, total=None, label=name)

        def show(done: int, total: int, label: str) -> None:
            bar.update(task, completed=done, total=total or None, label=f"{name}: {label}")

        return store.pull(name, show)
