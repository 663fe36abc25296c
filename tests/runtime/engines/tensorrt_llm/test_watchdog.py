"""Which processes the watchdog takes for the package's workers."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from runtime.engines.tensorrt_llm.watchdog import SINGLE_PROCESS, _workers


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
