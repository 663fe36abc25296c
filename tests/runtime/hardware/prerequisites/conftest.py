"""Machines for the checks, each in a folder of its own."""

from functools import partial
from pathlib import Path

import pytest

from tests.runtime.hardware.prerequisites.harness import MakeMachine, machine_at


@pytest.fixture
def make_machine(tmp_path: Path) -> MakeMachine:
    """Makes machines whose root is the test's folder."""
    return partial(machine_at, tmp_path)
