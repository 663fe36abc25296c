"""Which processes the watchdog takes for the package's workers."""

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from runtime.config.tensorrt_llm import SINGLE_PROCESS
from runtime.engines.tensorrt_llm.watchdog import _workers
from tests.kit.serving import wait_for


@pytest.fixture
def helper() -> Iterator[int]:
    """A child that is no worker."""
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    yield process.pid
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("value", "is_worker"), [(None, True), ("0", True), ("1", False)])
def test_a_child_is_a_worker_unless_the_package_works_in_this_process(
    monkeypatch: pytest.MonkeyPatch, helper: int, value: str | None, is_worker: bool
) -> None:
    """A helper that ends would look like a dead worker otherwise."""
    monkeypatch.delenv(SINGLE_PROCESS, raising=False)
    if value is not None:
        monkeypatch.setenv(SINGLE_PROCESS, value)
    assert (helper in [process.pid for process in _workers()]) == is_worker


def test_a_child_that_has_ended_before_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has waited for it, so that it is still in the table of processes."""
    monkeypatch.delenv(SINGLE_PROCESS, raising=False)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        process = psutil.Process(ended.pid)
        wait_for(lambda: process.status() == psutil.STATUS_ZOMBIE)
        assert ended.pid not in [worker.pid for worker in _workers()]
