"""Finds the model that a command's argument names."""

from pathlib import Path

from runtime.models.store import ModelStore


def model_path(name_or_path: str) -> Path:
    """The file of a name in the catalogue, or the file or folder at a path.

    Raises ModelNotFound if there is no such name and no such path.
    """
    path = Path(name_or_path)
    return path if path.is_dir() else ModelStore().find(name_or_path).path
