"""Finds the model that a command's argument names."""

import sys
import time
from pathlib import Path

from runtime.models.store import ModelStore

_LINE_SECONDS = 5.0


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
    return store.pull(name_or_path, _Lines())


class _Lines:
    """Says on stderr, every few seconds, how far a download has come."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, total: int, label: str) -> None:
        if total and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_SECONDS
            share = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
            print(f"{label}: {share}", file=sys.stderr, flush=True)
