"""`lockgate ps`: the models of the server at the address of the settings."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.__main__ import main
from tests.kit.api_keys import write_keys
from tests.kit.command_line import environment
from tests.kit.serving import running_server
from tests.kit.several_models import ask, several_settings

COLUMNS = ("name", "state", "memory", "requests", "waiting", "idle", "loads", "reason")


def ps(*arguments: str) -> str:
    """What the command prints, in a process of its own: the server here logs to stdout, too."""
    command = [sys.executable, "-m", "gateway", "ps", *arguments]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=True
    ).stdout


def test_the_table_and_its_json() -> None:
    settings = several_settings({"a": {"load": "start"}, "acme/b": {}})
    with running_server(settings) as server:
        ask(server, "a")
        head, first, second = ps("--port", str(server.port)).splitlines()
        assert head.split() == [*COLUMNS]
        assert re.fullmatch(r"a +ready +\d+ MB +0 +0 +\d+ s +1 *", first)
        assert re.fullmatch(r"acme/b +unloaded +0 +0 +0 *", second)
        shown = json.loads(ps("--port", str(server.port), "--json"))
        assert [each["name"] for each in shown] == ["a", "acme/b"]
        assert shown[0]["memory_bytes"] > 1_000_000


def test_who_may_not_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.toml"
    keys = write_keys(file, boss={"role": "admin"}, user={})
    settings = several_settings({"a": {}}, auth={"keys_file": str(file)})
    with running_server(settings) as server:
        for key, code in (("", 1), (keys["user"], 1), (keys["boss"], 0)):
            monkeypatch.setenv("LOCKGATE_API_KEY", key)
            found = main(["ps", "--port", str(server.port)])
            assert bool(found) == bool(code)
            assert ("LOCKGATE_ADMIN_API_KEY" in capsys.readouterr().err) == bool(code)


def test_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps", "--port", "9"]) != 0
    assert "no Lockgate answers at http://127.0.0.1:9" in capsys.readouterr().err
