"""Every engine is in every table of engines."""

from typing import get_args

import pytest

from runtime.config.engine import EngineConfig, EngineName
from runtime.config.engines import ENGINES
from runtime.config.worker import engine_environment
from runtime.engines import _FACTORIES
from runtime.hardware.engine_checks import examine_engines
from runtime.hardware.readings import GpuSnapshot
from runtime.supervisor.engine_process import _environment


def test_tables_name_the_same_engines():
    names = set(get_args(EngineName))

    assert set(ENGINES) == set(_FACTORIES) == names
    assert names <= set(EngineConfig.__struct_fields__)
    assert {report.name for report in examine_engines(GpuSnapshot(), EngineConfig(), "")} == names


def test_the_package_of_tensorrt_llm_keeps_to_this_machine(monkeypatch: pytest.MonkeyPatch):
    """It reports nothing, and its processes speak over loopback; the user's own values win."""
    monkeypatch.setenv("OMPI_MCA_btl_tcp_if_include", "eth1")
    environment = _environment(EngineConfig(name="tensorrt_llm"))

    assert environment["TRTLLM_NO_USAGE_STATS"] == "1"
    assert environment["OMPI_MCA_oob_tcp_if_include"] == "lo"
    assert environment["OMPI_MCA_btl_tcp_if_include"] == "eth1"
    assert "TRTLLM_NO_USAGE_STATS" not in engine_environment(EngineConfig(name="scripted"), {})


def test_open_mpi_is_never_told_of_interfaces_in_both_ways():
    """It ends with an error if it is."""
    given = {"OMPI_MCA_btl_tcp_if_exclude": "docker0"}
    environment = engine_environment(EngineConfig(name="tensorrt_llm"), given)

    assert "OMPI_MCA_btl_tcp_if_include" not in environment
    assert environment["OMPI_MCA_oob_tcp_if_include"] == "lo"
