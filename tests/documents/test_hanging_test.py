"""A test that hangs ends, whatever it does with the error of its timeout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.root import ROOT

HANGS = """
import asyncio
import pytest

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it(anyio_backend):
    while True:
        try:
            await asyncio.sleep(600)
        except BaseException as error:
            print("swallowed", error)
"""


@pytest.mark.parametrize("workers", [[], ["-n", "1"]])
def test_a_test_that_swallows_its_timeout_ends(tmp_path: Path, workers: list[str]) -> None:
    (tmp_path / "test_hangs.py").write_text(HANGS)
    options = ["-c", os.fspath(ROOT / "pyproject.toml"), "--rootdir", os.fspath(tmp_path)]
    limits = ["-o", "timeout=1", "-o", "faulthandler_timeout=3"]
    left_out = ["-p", "no:langsmith_plugin", "-p", "no:schemathesis"]  # as in scripts/test
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *limits, *left_out, *workers, "test_hangs.py"],
        cwd=tmp_path,
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode != 0
    assert b"test_hangs.py" in ended.stdout + ended.stderr
