"""Finds the model that a command's argument names."""

from pathlib import Path

from runtime.models.store import ModelStore
from runtime.terminal.progress_lines import ProgressLines


def model_path(name_or_path: str) -> Path:
    """The file or folder of a name, of the catalogue or of the hub, or what lies at a path. A model
    of the hub is downloaded if it is not here.

    Raises ModelNotFound if there is no such name and no such path, PullError if it cannot be
    downloaded.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    store = ModelStore()
    model = store.find(name_or_path)
    if model.is_present or model.entry is not None:
        return model.path
    return store.pull(name_or_path, ProgressLines())
