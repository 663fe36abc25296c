"""All downloads of one server."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog

from gateway.models.pulls.pull import Pull
from gateway.models.pulls.wanted import WantedModel
from runtime.models.sources import Progress

MAX_RUNNING = 2
"""Downloads that run at once; further ones wait."""

log = structlog.get_logger(__name__)


class Pulls:
    """Downloads models, each once however many wait for it, and as long as somebody does. Belongs
    to one event loop."""

    def __init__(self) -> None:
        self._pulls: dict[WantedModel, Pull] = {}
        self._queue: list[tuple[WantedModel, Pull]] = []
        self._num_running = 0

    @contextmanager
    def joined(self, wanted: WantedModel) -> Iterator[Pull]:
        """The download of this model, which begins unless it runs already. It ends when the last
        one leaves."""
        pull = self._pulls.get(wanted)
        if pull is None or pull.outcome.done():
            pull = self._begin(wanted)
        pull.num_waiting += 1
        try:
            yield pull
        finally:
            pull.num_waiting -= 1
            if not pull.num_waiting:
                pull.end()

    def stop(self) -> None:
        """Ends all downloads."""
        for pull in self._pulls.values():
            pull.end()

    def _begin(self, wanted: WantedModel) -> Pull:
        pull = self._pulls[wanted] = Pull()
        pull.outcome.add_done_callback(lambda _: self._forget(wanted, pull))
        self._queue.append((wanted, pull))
        self._run_next()
        return pull

    def _run_next(self) -> None:
        while self._queue and self._num_running < MAX_RUNNING:
            self._num_running += 1
            wanted, pull = self._queue.pop(0)
            log.info("pull_started", model=wanted.name)
            pull.run(partial(_fetch, wanted))

    def _forget(self, wanted: WantedModel, pull: Pull) -> None:
        if self._pulls.get(wanted) is pull:
            del self._pulls[wanted]
        if (wanted, pull) in self._queue:
            self._queue.remove((wanted, pull))
            return
        error = pull.outcome.exception()
        if error is None:
            log.info("pull_finished", model=wanted.name)
        else:
            log.warning("pull_failed", model=wanted.name, reason=str(error))
        self._num_running -= 1
        self._run_next()


def _fetch(wanted: WantedModel, progress: Progress) -> Path:
    return wanted.store().pull(wanted.name, progress)
