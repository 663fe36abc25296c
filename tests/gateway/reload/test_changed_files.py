"""Files change under a running server, while streams run."""

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.kit.api_keys import bearer, write_keys
from tests.kit.command_line import served
from tests.kit.reloading import write_settings
from tests.kit.serving import wait_for

KEYS = {"auth.keys_file": "keys.toml"}


def is_whole(lines, num_tokens: int = 300) -> bool:
    """Whether a stream came to its end with all of its tokens."""
    events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    usage = json.loads(events[-2])["usage"]
    return events[-1] == "[DONE]" and usage["completion_tokens"] == num_tokens


def test_keys_aliases_and_limits_change_while_a_revoked_key_is_answered(tmp_path: Path, serving):
    keys = write_keys(tmp_path / "keys.toml", alice={}, bob={})
    with serving(KEYS) as server, server.stream(keys["alice"]) as lines:
        carol = write_keys(tmp_path / "new.toml", carol={"models": ["gpt"]})["carol"]
        (tmp_path / "new.toml").replace(tmp_path / "keys.toml")
        server.write({**KEYS, "model.aliases": {"gpt": "scripted"}, "server.max_body_bytes": 500})

        wait_for(lambda: server.chat(keys["alice"]).status_code == 401)
        wait_for(lambda: server.chat(carol, model="gpt").status_code == 200)
        assert server.chat(keys["bob"]).status_code == 401
        wait_for(lambda: server.chat(user="x" * 600).status_code == 413)
        assert is_whole(lines)


def test_a_key_expires_while_it_is_answered(tmp_path: Path, serving):
    keys = write_keys(tmp_path / "keys.toml", alice={})
    text = (tmp_path / "keys.toml").read_text()
    with serving(KEYS) as server, server.stream(keys["alice"], num_tokens=150) as lines:
        soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
        (tmp_path / "new.toml").write_text(f"{text}\nexpires = {soon}")
        (tmp_path / "new.toml").replace(tmp_path / "keys.toml")
        wait_for(lambda: "has expired" in server.chat(keys["alice"]).text)
        assert is_whole(lines, 150)
        (tmp_path / "keys.toml").write_text(f"{text}\nexpires = 2999-01-01T00:00:00+01:00")
        wait_for(lambda: server.chat(keys["alice"]).status_code == 200)


def test_a_file_that_is_wrong_changes_nothing_until_it_is_mended(tmp_path: Path, serving):
    keys = write_keys(tmp_path / "keys.toml", alice={})
    right = (tmp_path / "keys.toml").read_text()
    with serving(KEYS) as server:
        (tmp_path / "keys.toml").write_text("[keys.alice]\nsha256 =")
        (tmp_path / "settings.toml").write_text("[server\n")
        wait_for(lambda: len(server.reload()["errors"]) == 1)
        assert server.chat(keys["alice"]).status_code == 200
        # a mistake in the settings does not keep a key valid that is revoked
        (tmp_path / "keys.toml").write_text("")
        wait_for(lambda: server.chat(keys["alice"]).status_code == 401)
        (tmp_path / "keys.toml").write_text(right)
        wait_for(lambda: server.chat(keys["alice"]).status_code == 200)
        server.write({**KEYS, "model.aliases": {"gpt": "scripted"}})
        wait_for(lambda: server.chat(model="gpt").status_code == 200)
        server.server.process.terminate()
        _, log = server.server.ended()
    events = [json.loads(line) for line in log.splitlines()]
    refused = [event for event in events if event["event"] == "reload_refused"]
    assert 1 <= len(refused) <= 3
    assert len({str(event["errors"]) for event in refused}) == len(refused)


def test_a_file_that_is_gone_changes_nothing(tmp_path: Path, serving):
    keys = write_keys(tmp_path / "keys.toml", alice={})
    with serving(KEYS) as server:
        (tmp_path / "settings.toml").unlink()
        wait_for(lambda: "cannot be read" in str(server.reload()["errors"]))
        (tmp_path / "keys.toml").unlink()
        wait_for(lambda: server.chat(keys["alice"]).status_code == 200)
        server.write(KEYS)
        wait_for(lambda: "keys.toml cannot be read" in str(server.reload()["errors"]))
        assert server.chat(keys["alice"]).status_code == 200


def test_a_file_that_is_replaced_a_hundred_times_ends_as_the_last(tmp_path: Path, serving):
    keys = write_keys(tmp_path / "keys.toml", alice={})
    text = (tmp_path / "keys.toml").read_text()
    with serving(KEYS) as server, server.stream(keys["alice"]) as lines:
        for count in range(1, 101):
            (tmp_path / "new.toml").write_text(f"{text}\nrequests_per_minute = {count + 500}")
            os.replace(tmp_path / "new.toml", tmp_path / "keys.toml")
            server.write({**KEYS, "model.aliases": {f"gpt-{count}": "scripted"}})
            assert server.chat(keys["alice"]).status_code == 200
        wait_for(lambda: server.chat(model="gpt-100").status_code == 200)
        limit = "x-ratelimit-limit-requests"
        wait_for(lambda: server.chat(keys["alice"]).headers.get(limit) == "600")
        assert "gpt-99" not in server.http.get("/v1/models").text
        assert is_whole(lines)


def test_settings_that_appear_only_later_are_read(tmp_path: Path):
    with served(tmp_path) as server:
        assert "gpt" not in server.http.get("/v1/models").text
        write_settings(tmp_path / "settings.toml", {"model.aliases": {"gpt": "scripted"}})
        wait_for(lambda: "gpt" in server.http.get("/v1/models").text)


def test_without_the_watch_only_a_request_reloads(tmp_path: Path, serving):
    keys = write_keys(tmp_path / "keys.toml", alice={})
    off = {**KEYS, "server.watch_files": False}
    with serving(off) as server:
        server.write({**off, "model.aliases": {"gpt": "scripted"}})
        write_keys(tmp_path / "keys.toml", bob={})
        report = server.reload()
        assert report["applied"] == ["model.aliases", "keys.alice", "keys.bob"]
        assert server.chat(keys["alice"]).status_code == 401
        server.write({**KEYS, "model.aliases": {"gpt": "scripted"}})
        assert server.reload()["applied"] == ["server.watch_files"]
        carol = write_keys(tmp_path / "keys.toml", carol={})["carol"]
        wait_for(lambda: server.chat(carol).status_code == 200)
        server.write(KEYS)
        wait_for(lambda: server.chat(model="gpt").status_code == 404)


def test_a_server_that_drains_still_reloads(serving):
    off = {"server.watch_files": False}
    with serving(off) as server, server.stream() as lines:
        server.http.post("/admin/drain", json={"exit": True})
        server.write({**off, "engine.max_num_seqs": 4, "model.aliases": {"gpt": "scripted"}})
        report = server.reload(restart_engine=True)
        assert report["applied"] == ["model.aliases", "engine.max_num_seqs"]
        assert is_whole(lines)


def test_the_engine_is_replaced_again_and_again_under_a_stream(serving):
    """Reloads meet engines that load, and each other."""
    with serving({}) as server, server.stream() as lines:
        reports: list[dict] = []

        def reload_often() -> None:
            for count in range(6):
                server.write({"engine.max_num_seqs": 4 + count, "engine.scripted.load_ms": 50})
                reports.append(server.reload(restart_engine=True))

        threads = [threading.Thread(target=reload_often) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert is_whole(lines)
        assert not any(report["errors"] for report in reports)
        assert any(report["restarts_engine"] for report in reports)
        wait_for(server.server.is_ready)
        assert server.chat().status_code == 200


def test_changes_for_the_engine_wait_for_its_restart(serving):
    with serving({}) as server:
        server.write({"engine.max_model_len": 600, "server.port": 1})
        report = server.reload()
        assert report["needs_engine_restart"] == ["engine.max_model_len"]
        assert report["needs_server_restart"] == []  # --port says otherwise
        with server.stream(num_tokens=50) as lines:
            assert server.http.post("/admin/restart").status_code == 202
            assert is_whole(lines, 50)
        assert server.reload()["needs_engine_restart"] == []
        models = server.http.get("/v1/models").json()["data"]
        assert models[0]["max_model_len"] == 600


def test_an_engine_that_cannot_load_gives_way_to_the_one_before(serving):
    with serving({}) as server, server.stream(num_tokens=200) as lines:
        wrong = {"engine.scripted.load_ms": 600_000, "engine.start_timeout": 0.3}
        server.write(wrong)
        assert set(server.reload(restart_engine=True)["applied"]) == wrong.keys()
        assert is_whole(lines, 200)
        report = server.reload()
        assert set(report["needs_engine_restart"]) == wrong.keys()
        assert server.chat().status_code == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"server.nope": 1}, r"$.server.nope is not a setting"),
        ({"server.port": "x"}, r"$.server.port: expected"),
        ({"model.aliases": {"gpt": "nobody"}}, "there is no model 'nobody'"),
        ({"model.aliases": {"scripted": "scripted"}}, "is a model already"),
        ({"server.cors_allow_origins": ["chat.example"]}, "server.cors_allow_origins"),
        ({"auth.keys_file": "none.toml"}, "none.toml cannot be read"),
    ],
)
def test_a_mistake_keeps_all_but_the_keys_as_it_is(
    tmp_path: Path, serving, change: dict, message: str
):
    alice = write_keys(tmp_path / "keys.toml", alice={})["alice"]
    with serving({**KEYS, "server.watch_files": False}) as server:
        bob = write_keys(tmp_path / "keys.toml", bob={})["bob"]
        server.write({**KEYS, "metrics.max_keys": 5, **change})
        answer = server.http.post("/admin/reload")
        assert (answer.status_code, answer.json()["applied"]) == (422, ["keys.alice", "keys.bob"])
        [error] = answer.json()["errors"]
        assert message in error
        assert server.chat(alice).status_code == 401, "no mistake keeps a revoked key valid"
        assert server.chat(bob).status_code == 200
        assert 'key="bob"' not in server.http.get("/metrics").text
        assert server.http.post("/admin/reload").json()["applied"] == []


def test_reloading_is_for_admins(tmp_path: Path, serving):
    keys = write_keys(tmp_path / "keys.toml", alice={})
    with serving(KEYS) as server:
        answer = server.http.post("/admin/reload", headers=bearer(keys["alice"]))
        assert answer.status_code == 403
        wrong = server.http.post("/admin/reload", json={"restart": True})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "restart")
