"""The files of `deploy/` that other programs read: the unit of systemd and the container files."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.settings.schema import ServerSettings
from tests.kit.root import ROOT

UNIT = ROOT / "deploy" / "lockgate.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


def unit() -> configparser.SectionProxy:
    """The last value of each key of the section [Service]."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT, encoding="utf-8")
    return parser["Service"]


@needs_systemd
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    file = tmp_path / UNIT.name
    file.write_text(text)
    answer = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False
    )
    assert UNIT.name not in answer.stderr


@needs_systemd
def test_the_unit_stays_confined() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(UNIT)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in answer.stderr:
        pytest.skip("this systemd examines running units alone")
    assert answer.returncode == 0, answer.stdout[-300:]


def test_the_unit_lets_the_gateway_recover() -> None:
    """The kernel may kill the engine, and the watchdog hears of the event loop."""
    service = unit()
    assert service["OOMPolicy"] == "continue"
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert int(service["WatchdogSec"]) >= 30
    assert int(service["TimeoutStopSec"]) > ServerSettings().drain_timeout
