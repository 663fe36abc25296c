"""The files of `deploy/` that other programs read: the unit of systemd and the container files."""

import argparse
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gateway.commands import serve
from gateway.commands.options import settings_of
from gateway.settings.schema import ServerSettings
from tests.kit.root import ROOT
from tests.kit.serving import running_server, scripted_settings

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


CONTAINER_FILES = sorted((ROOT / "deploy").glob("Containerfile*"))
Steps = list[tuple[str, str]]


def steps_of(file: Path) -> Steps:
    """Instructions and their arguments, continued lines joined, comments left out."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (line.split()[0], line.split(" ", 1)[1].strip()) for line in joined.splitlines() if line
    ]


@pytest.fixture(params=CONTAINER_FILES, ids=lambda file: file.name)
def steps(request: pytest.FixtureRequest) -> Steps:
    return steps_of(request.param)


def arguments_of(steps: Steps, instruction: str) -> list[str]:
    return [arguments for name, arguments in steps if name == instruction]


def test_there_is_an_image_for_each_engine_that_people_use() -> None:
    assert [file.name for file in CONTAINER_FILES] == ["Containerfile", "Containerfile.llama_cpp"]


def test_images_copy_what_there_is_and_all_of_it(steps: Steps) -> None:
    copied = [words.split()[:-1] for words in arguments_of(steps, "COPY") if "--from" not in words]
    sources = {source for words in copied for source in words}
    packages = re.findall(r"^packages = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.M)[0]
    assert set(re.findall(r'"(\w+)"', packages)) <= sources
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored


def test_images_do_not_run_as_root(steps: Steps) -> None:
    [user] = arguments_of(steps, "USER")
    names = [name for name, _ in steps]
    assert int(user.split(":")[0]) > 0
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert any(f"--uid {user.split(':')[0]} " in run for run in arguments_of(steps, "RUN"))


def test_commands_of_images_fail_aloud(steps: Steps) -> None:
    """The shell forgets how all but the last command of a pipe ended."""
    for run in arguments_of(steps, "RUN"):
        assert not re.search(r"[^|]\|[^|]", run), run
        assert ";" not in run.replace("; exit 1; }", ""), run


def test_entry_points_are_commands_of_this_version(steps: Steps) -> None:
    [words] = [json.loads(each) for each in arguments_of(steps, "ENTRYPOINT")]
    assert words[:2] == ["lockgate", "serve"]
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    settings = settings_of(parser.parse_args(words[2:]))
    assert settings.server.host == "0.0.0.0"
    assert arguments_of(steps, "EXPOSE") == [str(settings.server.port)]


def test_health_checks_ask_a_server_that_answers(steps: Steps, tmp_path: Path) -> None:
    [check] = arguments_of(steps, "HEALTHCHECK")
    command = json.loads(check.split(" CMD ")[1])
    with running_server(scripted_settings()) as server:
        command = [word.replace(":8000/", f":{server.port}/") for word in command]
        assert subprocess.run([sys.executable, *command[1:]], check=False).returncode == 0
    stopped = subprocess.run([sys.executable, *command[1:]], capture_output=True, check=False)
    assert stopped.returncode == 1


PIP = """#!/bin/sh
case "$1" in
show) exit $SHOW ;;
freeze) printf "$FROZEN"; exit $FREEZE ;;
install) cat "$4" > installed; exit 0 ;;
esac
"""


@pytest.mark.posix("a POSIX shell")
@pytest.mark.parametrize(
    ("frozen", "show", "freeze", "installed"),
    [
        ("numpy==1.26.4\\na @ file:///a\\ntorch==2.9\\n", 0, 0, "numpy==1.26.4\ntorch==2.9\n"),
        ("a @ file:///a\\n", 0, 0, ""),
        ("", 0, 0, ""),
        ("numpy==1.26.4\\n", 0, 1, None),
        ("numpy==1.26.4\\n", 1, 0, None),
    ],
)
def test_what_the_base_image_has_is_a_constraint(
    tmp_path: Path, frozen: str, show: int, freeze: int, installed: str | None
) -> None:
    pip = tmp_path / "pip"
    pip.write_text(PIP)
    pip.chmod(0o755)
    runs = [run for run in arguments_of(steps_of(CONTAINER_FILES[0]), "RUN") if "pip" in run]
    script = " && ".join(f"( {run} )" for run in runs).replace("/tmp/", f"{tmp_path}/")
    numbers = {"FROZEN": frozen, "SHOW": str(show), "FREEZE": str(freeze)}
    answer = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.defpath}", **numbers},
        capture_output=True,
        text=True,
        check=False,
    )
    file = tmp_path / "installed"
    assert (answer.returncode == 0) is (installed is not None)
    assert (file.read_text() if file.exists() else None) == installed
    assert show == 0 or "IMAGE has no package tensorrt_llm" in answer.stderr


def test_compose_keeps_the_home_folder_of_the_image() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yml").read_text())["services"]
    homes = [each for each in arguments_of(steps_of(CONTAINER_FILES[0]), "ENV") if "HOME=" in each]
    home = homes[0].split("HOME=")[1].split()[0]
    assert f"lockgate:{home}" in services["lockgate"]["volumes"]
