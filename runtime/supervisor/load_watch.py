"""The start of one engine, watched: what it waits for, and whether it hangs."""

import time
from collections.abc import Callable

import structlog
from msgspec.structs import replace

from runtime.client.load_state import LoadState
from runtime.messages.loading import LoadPhase
from runtime.supervisor.signs_of_life import Signs

log = structlog.get_logger(__name__)

SHORT_SECONDS = 2.0
"""A phase that takes no longer is not logged."""

LOG_SECONDS = 30.0
"""How often a long phase is logged."""

BUSY_FACTOR = 6
"""Work of the processors alone is taken for life this many times as long as silence: a library
that waits for a message which never comes may spin."""


class LoadWatch:
    """Owns the `LoadState` of one start and hands each new one to `show`. `timeout` is in
    seconds."""

    def __init__(self, timeout: float, show: Callable[[LoadState], None]) -> None:
        now = time.monotonic()
        self._show = show
        self._last_news = now
        self._last_logged = 0.0
        self._signs: Signs | None = None
        self._state = LoadState(
            phase="process", started=now, since=now, last_sign=now, timeout=timeout
        )
        self._show(self._state)

    def on_phase(self, phase: LoadPhase, fraction: float | None) -> None:
        """The engine has told of a phase or of its progress in it."""
        now = time.monotonic()
        since = self._state.since if phase == self._state.phase else now
        self._news(now, replace(self._state, phase=phase, fraction=fraction, since=since))

    def on_signs(self, signs: Signs) -> None:
        """The system tells what the engine has used so far."""
        now, earlier = time.monotonic(), self._signs
        self._signs = signs
        if earlier is not None and signs.shows_news(earlier):
            self._news(now, self._state)
        elif earlier is not None and signs.shows_work(earlier):
            self._update(replace(self._state, last_sign=now))
        self._log_if_due(now)

    def why_given_up(self) -> str | None:
        """Why the start is taken for hung, as a sentence; None while it is not."""
        now, limit = time.monotonic(), self._state.timeout
        during = self._state.activity(now)
        if now - self._state.last_sign > limit:
            return f"The engine gave no sign of life for {limit:.0f} seconds. {during}"
        if now - self._last_news > BUSY_FACTOR * limit:
            seconds = BUSY_FACTOR * limit
            return f"The engine did nothing but compute for {seconds:.0f} seconds. {during}"
        return None

    def _news(self, now: float, state: LoadState) -> None:
        self._last_news = now
        self._update(replace(state, last_sign=now))

    def _update(self, state: LoadState) -> None:
        self._state = state
        self._show(state)

    def _log_if_due(self, now: float) -> None:
        since = self._state.since
        is_new = self._last_logged < since
        due = since + SHORT_SECONDS if is_new else self._last_logged + LOG_SECONDS
        if now >= due:
            self._log(now)

    def _log(self, now: float) -> None:
        self._last_logged = now
        state = self._state
        percent = None if state.fraction is None else round(100 * state.fraction)
        log.info(
            "engine_loading",
            phase=state.phase,
            percent=percent,
            phase_seconds=round(now - state.since, 1),
            seconds=round(now - state.started, 1),
            seconds_since_sign=round(now - state.last_sign, 1),
        )
