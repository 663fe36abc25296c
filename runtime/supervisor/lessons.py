"""What the deaths of engines have taught of this machine, kept in a file of the user's cache: the
next start need not learn it again."""

import contextlib
import datetime
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from runtime.config.engine import EngineName
from runtime.config.engines import ENGINES
from runtime.hardware.processor import machine_identity
from runtime.user_cache import cache_folder
from runtime.whole_file import write_whole

log = structlog.get_logger(__name__)

FILE_NAME = "learned.json"
MAX_LESSONS = 100
"""The oldest are forgotten beyond this number."""


class Situation(Struct, frozen=True, kw_only=True):
    """Where a lesson holds: one machine, one version of the engine's library, one model."""

    machine: str
    library: str
    model: str


class Lesson(Struct, frozen=True, kw_only=True):
    """An engine died while it loaded, and with the `setting` it loads. `date` is that day."""

    situation: Situation
    setting: str
    reason: str
    date: str


class _Document(Struct, frozen=True, forbid_unknown_fields=True):
    lessons: tuple[Lesson, ...] = ()


def situation_of(engine: EngineName, model_path: str) -> Situation:
    """The situation of an engine that is to load this model here."""
    library = ", ".join(_installed_packages(engine))
    size = 0
    with contextlib.suppress(OSError):
        size = os.stat(model_path).st_size
    model = f"{os.path.basename(model_path)} ({size} bytes)"
    return Situation(machine=machine_identity(), library=library, model=model)


def _installed_packages(engine: EngineName) -> Iterator[str]:
    for package in ENGINES[engine].packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield f"{package.name} {importlib.metadata.version(package.name)}"


class Lessons:
    """The lessons in a file. What cannot be read or written is logged and does without: an engine
    then dies once more at the next start and loads all the same."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or cache_folder() / FILE_NAME

    def all(self) -> tuple[Lesson, ...]:
        """The oldest first."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Document).lessons
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            log.warning("lessons_not_read", path=str(self._file), reason=str(error))
            return ()

    def find(self, situation: Situation) -> Lesson | None:
        """What is known of this situation."""
        return next((each for each in self.all() if each.situation == situation), None)

    def learn(self, situation: Situation, *, setting: str, reason: str) -> None:
        """Keep a lesson; it replaces the one of the same situation."""
        today = datetime.date.today().isoformat()
        lesson = Lesson(situation=situation, setting=setting, reason=reason, date=today)
        others = [each for each in self.all() if each.situation != situation]
        self._write((*others, lesson)[-MAX_LESSONS:])

    def forget(self) -> int:
        """Forget everything. Returns how many lessons there were."""
        number = len(self.all())
        self._file.unlink(missing_ok=True)
        return number

    def _write(self, lessons: tuple[Lesson, ...]) -> None:
        try:
            write_whole(self._file, msgspec.json.encode(_Document(lessons)))
        except OSError as error:
            log.warning("lessons_not_written", path=str(self._file), reason=str(error))
