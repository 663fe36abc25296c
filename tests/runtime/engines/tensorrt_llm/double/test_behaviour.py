"""The double does in each release what the table of facts says, and in all of them what the engine
relies on or steers around."""

from functools import partial
from typing import Any

import pytest

from tests.kit.tensorrt_double import FACTS
from tests.runtime.engines.tensorrt_llm.double.columns import PROBES, visible
from tests.runtime.engines.tensorrt_llm.double.habits import HABITS, ISSUES
from tests.runtime.engines.tensorrt_llm.double.harness import Double, Probe, Start

pytestmark = pytest.mark.anyio

_HABITS = {probe.__name__: probe for probe in HABITS}


def probe_of(name: str) -> Probe:
    return _HABITS.get(name) or PROBES.get(name) or partial(visible, name)


def expected(double: Double, name: str) -> Any:
    """One value for all releases, or the one of this release's column."""
    return HABITS[_HABITS[name]] if name in _HABITS else double.facts.fact(name)


def behaviours() -> list[Any]:
    """All rows, each with the issues of TensorRT-LLM that tell of it."""
    issues = FACTS | {name: ISSUES.get(name, ()) for name in _HABITS}
    return [
        pytest.param(name, id=" ".join([name, *(f"#{number}" for number in numbers)]))
        for name, numbers in issues.items()
    ]


@pytest.mark.parametrize("name", behaviours())
async def test_behaviour(double: Double, start: Start, name: str) -> None:
    assert await probe_of(name)(double, start) == expected(double, name)
