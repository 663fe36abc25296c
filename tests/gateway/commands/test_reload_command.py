"""`lockgate reload` asks the running server, and says what that has done."""

import re
from pathlib import Path

import pytest

from tests.kit.api_keys import write_keys
from tests.kit.command_line import ADMIN, lockgate, served
from tests.kit.reloading import write_settings


def test_it_says_what_has_changed_and_what_waits(tmp_path: Path):
    file = tmp_path / "settings.toml"
    base = {"server.watch_files": False, "auth.keys_file": "keys.toml"}
    write_keys(tmp_path / "keys.toml", alice={})
    write_settings(file, base)

    def reload(*options: str, key: str = ADMIN) -> str:
        done = lockgate(tmp_path, "reload", *where, *options, LOCKGATE_ADMIN_API_KEY=key)
        return done.stdout + done.stderr

    with served(tmp_path) as server:
        where = ("--port", str(server.http.base_url.port))
        assert reload() == "Nothing has changed.\n"
        changed = {"model.aliases": {"gpt": "scripted"}, "engine.max_num_seqs": 3}
        write_settings(file, {**base, **changed, "otel.service_name": "other"})
        write_keys(tmp_path / "keys.toml", bob={})
        said = reload()
        assert "model.aliases: applied\nkeys.alice: applied\nkeys.bob: applied\n" in said
        assert "engine.max_num_seqs: needs a new engine process" in said
        assert "otel.service_name: needs a new start of the server" in said
        assert "engine.max_num_seqs: applied" in reload("--restart-engine")
        assert "wants an admin's key; set LOCKGATE_ADMIN_API_KEY" in reload(key="")
        write_settings(file, {**base, "model.aliases": {"gpt": "nobody"}})
        assert re.search("lockgate: the server changed nothing: .*no model 'nobody'", reload())


@pytest.mark.parametrize("option", ["--port=1", "--set=server.port=1"])
def test_without_a_server_it_says_where_it_looked(tmp_path: Path, option: str):
    done = lockgate(tmp_path, "reload", option)
    assert done.returncode == 2
    assert "no Lockgate answers at http://127.0.0.1:1" in done.stderr
