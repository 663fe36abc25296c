"""The guard of a served model file. The engine maps the file, so whoever writes into it changes the
weights of the running model, and a file of the right size may hold anything at a start."""

import contextlib
import os
import threading
from pathlib import Path

import structlog

from runtime.errors import ModelFileError
from runtime.models.integrity.digest import sample, sha256
from runtime.models.integrity.marks import FileState, mark, marked, state_of

log = structlog.get_logger(__name__)


class WeightsGuard:
    """Watches one model file. `expected` is its SHA-256 in the catalogue or on the hub, and `name`
    is its name there; both are empty for a file that was named by its path: what it held when the
    first engine loaded it is then what it has to hold.

    A file that is renamed over the old one is taken by the next engine; the running one keeps the
    old file. The methods read files and block: call them in a thread.
    """

    def __init__(self, path: Path, *, name: str = "", expected: str = "") -> None:
        self._path = path
        self._name = name
        self._expected = expected
        self._loaded: FileState | None = None
        self._content = ""
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Check the file before an engine loads it. Raises ModelFileError if it is not what it has
        to be. A file that is absent is the engine's to report."""
        with self._lock, contextlib.suppress(OSError):
            self._close()
            self._check(state_of(self._path.stat()))
            if os.name != "nt":  # Windows lets nobody write into a file that is mapped
                self._descriptor = os.open(self._path, os.O_RDONLY)

    def problem(self) -> str:
        """What is wrong with the file that the running engine has mapped, as a sentence; "" if it
        is as it was."""
        with self._lock:
            return self._problem()

    def forget(self) -> None:
        """Take the file as it is at the next check. The published hash stays in force."""
        self._loaded, self._content = None, ""

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            self._close()

    def _problem(self) -> str:
        if self._descriptor is None or self._loaded is None:
            return ""
        state = state_of(os.fstat(self._descriptor))
        if state == self._loaded:
            return ""
        if self._is_replaced():  # the mapped file has lost its name, and its times say so
            self._close()
            log.info("model_file_replaced", path=str(self._path))
            return ""
        try:
            self._check(state)
        except ModelFileError as error:
            return str(error)
        log.info("model_file_touched", path=str(self._path))
        return ""

    def _check(self, state: FileState) -> None:
        if state == self._loaded:
            return
        content = self._read(state)
        if self._expected and content != self._expected:
            raise ModelFileError(
                f"The model file {self._path} is damaged: its SHA-256 is not the published"
                f" one. Fetch it again with: lockgate pull {self._name}. To serve it as it is, name"
                " it by its path"
            )
        if self._is_same_file(state) and content != self._content:
            raise ModelFileError(
                f"The model file {self._path} has been overwritten while it was served. Put the old"
                " content back, or take the new one by restarting the server or with POST"
                " /admin/restart. A file that is replaced by renaming disturbs nobody"
            )
        self._loaded, self._content = state, content

    def _is_same_file(self, state: FileState) -> bool:
        loaded = self._loaded
        return loaded is not None and (loaded.device, loaded.inode) == (state.device, state.inode)

    def _is_replaced(self) -> bool:
        try:
            return not self._is_same_file(state_of(self._path.stat()))
        except FileNotFoundError:
            return True

    def _read(self, state: FileState) -> str:
        """What stands for the file's content: a hash of all of it where one is published."""
        if not self._expected:
            return sample(self._path)
        found = marked(self._path, state) or sha256(self._path)
        if found == self._expected:
            mark(self._path, state, found)
        return found

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
