"""Processes that live, have ended and not been looked at, and are gone."""

import subprocess
import sys

import psutil
import pytest

from runtime.processes import is_alive
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
