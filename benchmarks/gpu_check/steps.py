"""Steps: their results, and running them one after another until the time is over."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["ok", "failed", "skipped"]
Facts = Mapping[str, Any]


class Skip(Exception):
    """A step cannot be taken on this machine; the text says why."""


class Wrong(Exception):
    """What was found is not what is right; the text has both."""


@dataclass(frozen=True)
class Result:
    """What became of one step. `facts` are its measurements, `reason` why it failed or was
    skipped."""

    name: str
    outcome: Outcome
    seconds: float
    facts: Facts = field(default_factory=dict)
    reason: str = ""


class Steps:
    """Runs steps and keeps their results. `budget` is in seconds; a step that would begin later is
    skipped."""

    def __init__(self, budget: float) -> None:
        self._end = time.monotonic() + budget
        self.results: list[Result] = []

    @property
    def seconds_left(self) -> float:
        return self._end - time.monotonic()

    def take(self, name: str, step: Callable[[], Facts]) -> Result:
        """Takes a step. Its exceptions become its result."""
        is_late = self.seconds_left <= 0
        skipped = Result(name, "skipped", 0.0, reason="out of time")
        result = skipped if is_late else _taken(name, step)
        self.results.append(result)
        return result

    def fail(self, name: str, seconds: float, error: Exception) -> Result:
        """Keeps a step that could not be taken to its end."""
        self.results.append(_failed(name, seconds, error))
        return self.results[-1]

    @property
    def has_failed(self) -> bool:
        return any(result.outcome == "failed" for result in self.results)


def _taken(name: str, step: Callable[[], Facts]) -> Result:
    start = time.monotonic()
    try:
        facts = step()
    except Skip as reason:
        return Result(name, "skipped", time.monotonic() - start, reason=str(reason))
    except Exception as error:  # the page says it, whatever it is
        return _failed(name, time.monotonic() - start, error)
    return Result(name, "ok", time.monotonic() - start, facts)


def _failed(name: str, seconds: float, error: Exception) -> Result:
    notes = getattr(error, "__notes__", [])
    reason = " ".join([f"{type(error).__name__}: {error}", *notes])
    return Result(name, "failed", seconds, reason=reason)


def expect(is_right: bool, what: str) -> None:
    """Raises Wrong unless it is right; `what` says what was expected and what came."""
    if not is_right:
        raise Wrong(what)
