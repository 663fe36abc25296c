"""The model store for commands: opened from the settings, with a progress bar for downloads."""

import sys
from pathlib import Path

from gateway.settings.schema import Settings
from runtime.errors import SetupError
from runtime.models.store import Model, ModelStore


def open_store(settings: Settings) -> ModelStore:
    """The store of the model folder and of the mirrors that the settings name."""
    return ModelStore(settings.model.folder, mirrors=settings.model.mirrors)


def find_model(settings: Settings) -> Model:
    """The model that the settings name. `SetupError` if the engine cannot load its kind."""
    model = open_store(settings).find(settings.model.name_or_path)
    _check_kind(model, settings.engine.name)
    return model


def ensure_model(settings: Settings) -> Model:
    """The model that the settings name, downloaded if it is missing."""
    store = open_store(settings)
    model = find_model(settings)
    if not model.is_present:
        pull_with_progress(store, model.name)
    return store.find(settings.model.name_or_path)


def _check_kind(model: Model, engine: str) -> None:
    if engine == "llama_cpp" and model.is_folder:
        raise SetupError(
            f"model.name_or_path: {model.path} is a Hugging Face checkpoint folder, and the engine"
            " llama_cpp needs a .gguf file. Name one, or choose another engine with"
            " --engine tensorrt_llm"
        )
    if engine == "tensorrt_llm" and not model.is_folder:
        raise SetupError(
            f"model.name_or_path: {model.name} is a .gguf file, and the engine tensorrt_llm needs"
            " a Hugging Face checkpoint folder. Name one, or choose another engine with"
            " --engine llama_cpp"
        )


def pull_with_progress(store: ModelStore, name: str) -> Path:
    """Downloads a model and returns its path. Shows a progress bar on stderr or, without a
    terminal, one line."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

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
