"""Puts the double of TensorRT-LLM in the package's place, one release at a time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path
from types import ModuleType

import pytest

from tests.kit.root import ROOT

DOUBLES = Path(__file__).parent / "doubles"

_FACTS = run_path(str(DOUBLES / "tensorrt_llm" / "facts.py"))
RELEASES: tuple[str, ...] = _FACTS["RELEASES"]
STABLE, EARLY, LATE = RELEASES

FACTS: dict[str, tuple[int, ...]] = {row.name: row.issues for row in _FACTS["TABLE"]}
"""The issues of TensorRT-LLM that tell of each fact, by the fact's name."""

_loaded: dict[str, dict[str, ModuleType]] = {}
"""Modules of each release: making their classes takes longer than most tests."""


@contextmanager
def double_of(release: str) -> Iterator[None]:
    """Imports of tensorrt_llm find the double of this release; afterwards they find what they
    found before."""
    before = _take_out()
    sys.modules.update(_loaded.get(release, {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOUBLES))
        patch.setenv("TENSORRT_LLM_DOUBLE", release)
        patch.delenv("TENSORRT_LLM_DOUBLE_SCRIPT", raising=False)
        patch.delenv("TENSORRT_LLM_DOUBLE_WORKER", raising=False)
        yield
    _loaded[release] = _take_out()
    sys.modules.update(before)


@contextmanager
def findable(release: str) -> Iterator[None]:
    """Engine processes that are started inside the block find the double of this release."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(DOUBLES), str(ROOT)]))
        patch.setenv("TENSORRT_LLM_DOUBLE", release)
        yield


def _take_out() -> dict[str, ModuleType]:
    """The package's modules, and ours that has a class of the package's as its base."""
    names = [
        name
        for name in sys.modules
        if name.split(".")[0] == "tensorrt_llm" or name.endswith("tensorrt_llm.token_rules")
    ]
    return {name: sys.modules.pop(name) for name in names}
