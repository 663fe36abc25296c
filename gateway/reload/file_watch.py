"""Which of some files have changed."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

_Stamp: TypeAlias = tuple[int, int, int] | None


class FileWatch:
    """Compares files with what they were at the last look. A file counts as changed when it has
    stayed the same for a whole look, so that nobody reads one that is still being written, and none
    is missed that is written twice within the clock's precision. A file that is new to it has
    changed: whoever read it may have read what it was before."""

    def __init__(self) -> None:
        self._known: dict[Path, _Stamp] = {}
        self._last: dict[Path, _Stamp] = {}

    def changed(self, files: Iterable[Path]) -> set[Path]:
        """Those that have changed since they were last in the answer, and rest now. A file that is
        gone has changed, too."""
        before, self._last = self._last, {file: _stamp(file) for file in files}
        resting = {f: s for f, s in self._last.items() if f in before and before[f] == s}
        found = {f for f, s in resting.items() if f not in self._known or self._known[f] != s}
        self._known = {f: s for f, s in self._known.items() if f in self._last} | resting
        return found


def _stamp(file: Path) -> _Stamp:
    """A value that changes whenever the file changes; None while it does not exist."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
