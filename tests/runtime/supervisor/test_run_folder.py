"""Folders of engine processes, and what is left of them when everything has been killed."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from runtime.processes import is_alive
from runtime.supervisor.run_folder import LOCK_NAME, clear_stale_folders, run_folder
from tests.kit.command_line import SCRIPTED, end_what_was_left, greeting, start
from tests.kit.serving import wait_for

posix = pytest.mark.posix("signals")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    end_what_was_left()


def made(folder: Path, *, age: float = 3600, locked: bool = True) -> Path:
    """A folder that a dead gateway has left."""
    folder.mkdir()
    (folder / "engine.sock").touch()
    if locked:
        (folder / LOCK_NAME).touch()
    then = time.time() - age
    os.utime(folder, (then, then))
    return folder


def engine_of(gateway: int) -> psutil.Process:
    wait_for(lambda: bool(psutil.Process(gateway).children()))
    [engine] = psutil.Process(gateway).children()
    return engine


def test_folder_lives_as_long_as_its_block(temporary: Path) -> None:
    with run_folder() as folder:
        assert folder.parent == temporary
        assert folder.is_dir()
    assert not list(temporary.iterdir())


def test_folder_that_was_left_behind_is_removed(temporary: Path) -> None:
    made(temporary / "lockgate-old")
    clear_stale_folders()
    assert not list(temporary.iterdir())


def test_folder_in_use_stays(temporary: Path) -> None:
    with run_folder() as folder:
        os.utime(folder, (1, 1))
        clear_stale_folders()
        assert folder.is_dir()


@pytest.mark.parametrize(
    ("name", "age", "locked"),
    [("other-old", 3600, True), ("lockgate-new", 0, True), ("lockgate-no-lock", 3600, False)],
)
def test_folder_that_is_not_sure_to_be_left_behind_stays(
    temporary: Path, name: str, age: float, locked: bool
) -> None:
    folder = made(temporary / name, age=age, locked=locked)
    clear_stale_folders()
    assert folder.is_dir()


@posix
def test_links_and_files_are_left_alone(temporary: Path) -> None:
    target = made(temporary / "elsewhere")
    (temporary / "lockgate-link").symlink_to(target)
    (temporary / "lockgate-file").touch()
    trap = made(temporary / "lockgate-trap", locked=False)
    (trap / LOCK_NAME).symlink_to(target / LOCK_NAME)
    os.utime(trap, (1, 1))
    before = sorted(temporary.iterdir())
    clear_stale_folders()
    assert sorted(temporary.iterdir()) == before


def test_no_temporary_folder_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    clear_stale_folders()


@pytest.mark.slow
@posix
def test_next_server_clears_what_a_killed_one_and_its_engine_left(
    temporary: Path, tmp_path: Path
) -> None:
    first = start(tmp_path, "serve", *SCRIPTED, TMPDIR=str(temporary))
    greeting(first)
    engine = engine_of(first.pid)
    [folder] = temporary.iterdir()
    engine.suspend()
    first.kill()
    engine.kill()
    first.communicate()
    wait_for(lambda: not is_alive(engine))
    assert folder.is_dir()
    os.utime(folder, (1, 1))
    second = start(tmp_path, "serve", *SCRIPTED, TMPDIR=str(temporary))
    greeting(second)
    wait_for(lambda: not folder.exists())
    second.send_signal(signal.SIGTERM)
    second.communicate()
    assert not list(temporary.iterdir())


@pytest.mark.posix("a signal at a parent's death")
@pytest.mark.skipif(sys.platform != "linux", reason="a signal at a parent's death")
def test_stopped_engine_does_not_outlive_its_gateway(temporary: Path, tmp_path: Path) -> None:
    gateway = start(tmp_path, "serve", *SCRIPTED, TMPDIR=str(temporary))
    greeting(gateway)
    engine = engine_of(gateway.pid)
    wait_for(lambda: _asks_for_a_signal(engine))
    engine.suspend()
    wait_for(lambda: engine.status() == psutil.STATUS_STOPPED)
    gateway.kill()
    gateway.communicate()
    wait_for(lambda: not is_alive(engine))
    assert not list(temporary.iterdir())


def _asks_for_a_signal(engine: psutil.Process) -> bool:
    """Whether it has started to watch its parent: it ignores Ctrl-C just before."""
    status = Path(f"/proc/{engine.pid}/status").read_text()
    ignored = int(status.split("SigIgn:")[1].split()[0], 16)
    return bool(ignored >> (signal.SIGINT - 1) & 1) and engine.num_threads() > 1


def test_lock_outlives_no_process(temporary: Path) -> None:
    with run_folder() as folder, pytest.raises(TimeoutError):
        FileLock(folder / LOCK_NAME, is_singleton=False).acquire(timeout=0)
