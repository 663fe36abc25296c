"""The check of a machine with a GPU: what it finds right is right, and what is wrong it says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gpu_check.page import write
from gpu_check.steps import Facts, Skip, Steps, expect

from tests.kit.models.tensorrt_model import write_tensorrt_model
from tests.kit.root import ROOT
from tests.kit.tensorrt_double import DOUBLES, LATE, RELEASES

PLAIN: dict[str, Any] = {"script": list(range(97, 123)), "step_ms": 1}
WITHOUT_GPU = {"plan", "bandwidth"}


def check(release: str, folder: Path, **plan: Any) -> tuple[int, dict[str, dict[str, Any]], str]:
    """The exit status, the steps by name, and the page."""
    model = write_tensorrt_model(folder / "model", **{**PLAIN, **plan})
    paths = [DOUBLES, ROOT / "benchmarks", ROOT]
    done = subprocess.run(
        [sys.executable, "-m", "gpu_check", str(model), "--out", str(folder), "--minutes", "2"],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "TENSORRT_LLM_DOUBLE": release,
        },
        capture_output=True,
        check=False,
        timeout=180,
    )
    document = json.loads((folder / "gpu-check.json").read_text())
    steps = {step["name"]: step for step in document["steps"]}
    return done.returncode, steps, (folder / "gpu-check.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_what_works_is_found_to_work(release: str, tmp_path: Path) -> None:
    status, steps, page = check(release, tmp_path)

    outcomes = {name: step["outcome"] for name, step in steps.items()}
    assert {name for name, outcome in outcomes.items() if outcome == "skipped"} <= WITHOUT_GPU
    assert "failed" not in outcomes.values(), steps
    assert status == 0
    kill = steps["kill"]["facts"]
    assert kill["same_characters"] == kill["characters"] > 100
    assert steps["streams"]["facts"]["tokens_per_second"] > 0
    assert all(f"| {name} |" in page for name in steps)


@pytest.mark.slow
def test_a_fault_is_found(tmp_path: Path) -> None:
    """Of one kind of answer; the others are checked all the same."""
    fault = {"kind": "request_error", "after": 20, "message": "no such kernel"}
    status, steps, page = check(LATE, tmp_path, faults=[fault])

    assert status == 1
    assert steps["chat"]["outcome"] == "failed"
    assert "no such kernel" in steps["chat"]["reason"]
    assert "no such kernel" in page
    assert steps["choices"]["outcome"] == "ok"


@pytest.mark.slow
def test_a_model_that_does_not_load_ends_the_check(tmp_path: Path) -> None:
    status, steps, _ = check(LATE, tmp_path, faults=[{"kind": "out_of_memory"}])

    assert status == 1
    assert steps["start"]["outcome"] == "failed"
    assert "insufficient GPU memory" in steps["start"]["reason"]
    assert "chat" not in steps


def _facts() -> Facts:
    return {"n": 1}


def _wrong() -> Facts:
    expect(1 > 2, "1 is not | more than 2")
    return {}


def _nothing_there() -> Facts:
    raise Skip("nothing there")


def test_steps_and_their_page(tmp_path: Path) -> None:
    steps = Steps(60)
    for name, step in {"good": _facts, "bad": _wrong, "none": _nothing_there}.items():
        steps.take(name, step)
    page, data = write(tmp_path / "new", {"model": "m"}, steps.results)

    outcomes = [each["outcome"] for each in json.loads(data.read_text())["steps"]]
    assert outcomes == ["ok", "failed", "skipped"]
    assert steps.has_failed
    assert r"Wrong: 1 is not \| more than 2 |" in page.read_text()
    assert '"n": 1' in page.read_text()


def test_a_step_that_would_begin_too_late_is_skipped() -> None:
    steps = Steps(0)

    assert steps.take("late", _facts).reason == "out of time"
    assert not steps.has_failed
