"""Servers without keys: which pages and names may use them, and who may reach them."""

from pathlib import Path

import httpx

from tests.kit.command_line import greeting, start
from tests.kit.reloading import reloadable_server, write_settings
from tests.kit.serving import wait_for


def status_for(server, **headers: str) -> int:
    return httpx.get(f"{server.url}/v1/models", headers=headers).status_code


def test_hosts_and_pages_are_allowed_and_forbidden_again(tmp_path: Path):
    with reloadable_server(tmp_path, {}, has_keys=False) as server:
        host, page = {"Host": "chat.example"}, {"Origin": "https://chat.example"}
        assert (status_for(server, **host), status_for(server, **page)) == (403, 403)
        server.write(server__allowed_hosts=["chat.example"])
        wait_for(lambda: status_for(server, **host) == 200)
        server.write(server__cors_allow_origins=["https://chat.example"])
        wait_for(lambda: status_for(server, **page) == 200)
        assert status_for(server, **host) == 403


def test_nobody_reloads_a_server_without_an_admin(tmp_path: Path):
    with reloadable_server(tmp_path, {}, has_keys=False) as server:
        assert httpx.post(f"{server.url}/admin/reload").status_code == 403


def test_a_server_that_the_network_reaches_is_not_opened_unasked(tmp_path: Path):
    """The first settings allow that nobody needs a key; it takes a new start to change that."""
    file = tmp_path / "settings.toml"
    write_settings(file, {"server.allow_unauthenticated": True, "engine.name": "scripted"})
    process = start(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")
    assert "serves scripted" in greeting(process)
    write_settings(file, {"engine.name": "scripted"})
    assert process.stderr is not None
    line = next(line for line in process.stderr if "reload_refused" in line)
    assert "server.host: at 0.0.0.0 everybody on the network could use this server" in line
    process.terminate()
    process.communicate()
