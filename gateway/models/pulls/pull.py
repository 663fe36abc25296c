"""One download of a model, in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from runtime.errors import PullError
from runtime.models.sources import Progress

Fetch = Callable[[Progress], Path]
"""Downloads, and returns what was downloaded."""


class PullProgress(Struct, frozen=True):
    """How far a download is. `activity` says what goes on, such as the name of the file that comes;
    the sizes are in bytes, and `total` is 0 while it is not known."""

    activity: str
    completed: int = 0
    total: int = 0

    @property
    def text(self) -> str:
        """Such as "model.gguf, 45 % of 491 MB"."""
        if not self.total:
            return self.activity
        share = self.completed / self.total
        return f"{self.activity}, {share:.0%} of {self.total / 1e6:,.0f} MB".replace("%", " %")


class _Unwanted(Exception):
    """Raised within a download to end it."""


class Pull:
    """Belongs to one event loop. `outcome` is the path of what was downloaded, or the error.

    `end` ends the download at its next piece: what has arrived stays, and the next download of the
    same goes on from there.
    """

    def __init__(self) -> None:
        self.progress = PullProgress("waiting for other downloads")
        self.num_waiting = 0
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Path] = self._loop.create_future()
        self._is_ended = False

    def run(self, fetch: Fetch) -> None:
        """Begins to download."""
        self.progress = PullProgress("asking the hub")
        # a daemon, since a transfer that rests must not keep the server from ending
        threading.Thread(target=self._run, args=(fetch,), name="pull", daemon=True).start()

    def end(self) -> None:
        """Nobody wants it any more."""
        self._is_ended = True
        self._settle(error=PullError("the download was ended because nobody waited for it"))

    def _run(self, fetch: Fetch) -> None:
        own_thread = threading.get_ident()

        def report(done: int, total: int, label: str) -> None:
            self.progress = PullProgress(label, done, total)
            if self._is_ended and threading.get_ident() == own_thread:
                raise _Unwanted

        try:
            self._tell(path=fetch(report))
        except _Unwanted:
            pass
        except Exception as error:  # whatever it is, those who wait must hear of it
            self._tell(error=error)

    def _tell(self, *, path: Path | None = None, error: Exception | None = None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._settle(path=path, error=error))

    def _settle(self, *, path: Path | None = None, error: Exception | None = None) -> None:
        if self.outcome.done():
            return
        if path is not None:
            self.outcome.set_result(path)
        elif error is not None:
            self.outcome.set_exception(error)
            self.outcome.exception()  # perhaps nobody waits
