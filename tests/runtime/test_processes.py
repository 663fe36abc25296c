"""Processes that live, have ended and not been looked at, and are gone."""

import subprocess
import sys

import psutil
import pytest

from runtime.processes import has_crashed, how_it_ended, is_alive, was_cut_short
from tests.kit.platform import IS_WINDOWS
from tests.kit.serving import wait_for


def test_a_process_lives_until_its_end_and_not_until_somebody_has_looked():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = psutil.Process(child.pid)
        assert is_alive(process)

        child.kill()

        wait_for(lambda: not is_alive(process))
    assert child.returncode is not None
    assert not is_alive(process)


def test_a_process_that_ends_while_it_is_asked_about_does_not_live(monkeypatch: pytest.MonkeyPatch):
    def gone(process: psutil.Process) -> str:
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "status", gone)
    assert not is_alive(psutil.Process())


@pytest.mark.parametrize(
    ("status", "words", "cut_short", "crashed"),
    [
        (0, "status 0", False, False),
        (1, "status 1", False, False),  # what Windows' TerminateProcess leaves, too
        (3, "status 3", IS_WINDOWS, IS_WINDOWS),  # C's abort on Windows
        (70, "status 70", False, False),
        (255, "status 255", False, False),
        (-4, "signal 4", True, True),
        (-9, "signal 9", True, False),
        (-15, "signal 15", True, False),
        (0xC0000005, "exception 0xC0000005 (access violation)", True, True),
        (0xC000001D, "exception 0xC000001D (illegal instruction)", True, True),
        (0xC0000409, "exception 0xC0000409 (abort)", True, True),
        (0xC0000420, "exception 0xC0000420", True, True),
    ],
)
def test_an_exit_status_says_how_a_process_ended(
    status: int, words: str, cut_short: bool, crashed: bool
):
    assert how_it_ended(status) == words
    assert was_cut_short(status) is cut_short
    assert has_crashed(status) is crashed
