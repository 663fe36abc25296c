"""`lockgate usage`: what the server at the address of the settings has counted."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.settings.schema import AuthSettings, StoreSettings
from tests.kit.api_keys import write_keys
from tests.kit.command_line import environment
from tests.kit.guarded import Guarded
from tests.kit.serving import MODEL, running_server, scripted_settings


def usage(*arguments: str, **variables: str) -> str:
    """What the command prints, in a process of its own: the server here logs to stdout, too."""
    command = [sys.executable, "-m", "gateway", "usage", *arguments]
    return subprocess.run(
        command, env=environment(**variables), capture_output=True, text=True, check=True
    ).stdout


def test_tables_by_what_is_wanted(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.toml", boss={"role": "admin"}, ann={}, bob={})
    auth = AuthSettings(keys_file=str(tmp_path / "keys.toml"))
    store = StoreSettings(path=str(tmp_path / "store.db"))
    with running_server(scripted_settings(auth=auth, store=store)) as server:
        guarded = Guarded(server, keys)
        used = [guarded.chat(name).json()["usage"] for name in ("ann", "ann", "bob")]
        guarded.post("/v1/embeddings", "bob", model=MODEL, input="hi")
        where = ("--port", str(server.port))
        boss, ann = ({"LOCKGATE_API_KEY": keys[name]} for name in ("boss", "ann"))

        by_key = json.loads(usage(*where, "--by", "key", "--json", **boss))
        assert [(each["name"], each["requests"]) for each in by_key] == [("ann", 2), ("bob", 2)]
        assert by_key[0]["input_tokens"] == used[0]["prompt_tokens"] + used[1]["prompt_tokens"]

        lines = list(csv.DictReader(usage(*where, "--by", "endpoint", "--csv", **ann).splitlines()))
        assert [(each["endpoint"], each["requests"]) for each in lines] == [
            ("/v1/chat/completions", "2")
        ]
        head, *days = usage(*where, "--days", "70", **boss).splitlines()
        assert head.split()[:3] == ["day", "requests", "input"]
        assert sum(int(day.split()[1]) for day in days) == 4
        assert usage(*where, "--by", "model", **boss).splitlines()[1].startswith(f"{MODEL} ")


@pytest.mark.parametrize("days", ["0", "-1", "3661", "x", "²"])
def test_days_that_are_none(capsys: pytest.CaptureFixture[str], days: str) -> None:
    assert main(["usage", f"--days={days}"]) != 0
    assert "a whole number from 1 to 3660" in capsys.readouterr().err


def test_without_a_server_or_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--port", "9"]) != 0
    assert "no Lockgate answers at http://127.0.0.1:9" in capsys.readouterr().err
    write_keys(tmp_path / "keys.toml", boss={"role": "admin"})
    auth = AuthSettings(keys_file=str(tmp_path / "keys.toml"))
    with running_server(scripted_settings(auth=auth)) as server:
        assert main(["usage", "--port", str(server.port)]) != 0
        assert "LOCKGATE_ADMIN_API_KEY" in capsys.readouterr().err
