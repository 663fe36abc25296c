"""Every engine is in every table of engines."""

from typing import get_args

from runtime.config.engine import EngineConfig, EngineName
from runtime.config.engines import ENGINES
from runtime.engines import _FACTORIES
from runtime.hardware.engine_checks import examine_engines
from runtime.hardware.readings import GpuSnapshot


def test_tables_name_the_same_engines():
    names = set(get_args(EngineName))

    assert set(ENGINES) == set(_FACTORIES) == names
    assert names <= set(EngineConfig.__struct_fields__)
    assert {report.name for report in examine_engines(GpuSnapshot())} == names
