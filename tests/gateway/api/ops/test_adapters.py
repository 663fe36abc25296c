"""Adapters are models that an admin loads and unloads while the server runs."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.settings.schema import AuthSettings
from runtime.config.llama_cpp import LlamaCppLoRAConfig
from tests.kit.api_keys import bearer, write_keys
from tests.kit.engines import ONE_THREAD, needs_llama_library
from tests.kit.models.tiny_adapter import write_tiny_adapter
from tests.kit.serving import (
    MODEL,
    RunningServer,
    running_server,
    scripted_settings,
    tiny_settings,
    wait_for,
)

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outer = tmp_path_factory.mktemp("adapters")
    inner = outer / "inner"
    inner.mkdir()
    write_tiny_adapter(inner / "one.gguf", seed=1)
    write_tiny_adapter(inner / "two.gguf", seed=2)
    write_tiny_adapter(outer / "outside.gguf", seed=3)
    (inner / "junk.gguf").write_bytes(b"junk")
    return inner


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    return write_keys(folder.parent / "keys.toml", boss={"role": "admin"}, user={})


@pytest.fixture(scope="module")
def server(folder: Path, keys: dict[str, str], tiny_model_path: Path) -> Iterator[RunningServer]:
    needs_llama_library()
    plain = tiny_settings()
    lora = LlamaCppLoRAConfig(adapters={"one": str(folder / "one.gguf")}, folder=str(folder))
    llama_cpp = msgspec.structs.replace(ONE_THREAD, lora=lora)
    settings = msgspec.structs.replace(
        plain,
        engine=msgspec.structs.replace(plain.engine, llama_cpp=llama_cpp),
        auth=AuthSettings(keys_file=str(folder.parent / "keys.toml"), monitoring="open"),
    )
    with running_server(settings, model_path=str(tiny_model_path)) as running:
        running.http.headers.update(bearer(keys["boss"]))
        yield running


def answer_of(server: RunningServer, model: str) -> str:
    body = {"prompt": "the quick brown fox", "max_tokens": 12, "temperature": 0, "model": model}
    response = server.post("/v1/completions", **body, ignore_eos=True)
    assert response.status_code == 200, response.text
    assert response.json()["model"] == model
    return str(response.json()["choices"][0]["text"])


def parents(server: RunningServer) -> dict[str, str | None]:
    return {each["id"]: each["parent"] for each in server.http.get("/v1/models").json()["data"]}


def test_an_adapter_of_the_settings_is_a_model_of_its_own(server):
    assert answer_of(server, "one") != answer_of(server, MODEL)
    assert parents(server) == {MODEL: None, "one": MODEL}


def test_an_adapter_comes_and_goes(server):
    """It survives the engine, too."""
    loaded = server.http.post(LOAD, json={"lora_name": "two", "lora_path": "two.gguf"})
    assert (loaded.status_code, loaded.json()["status"]) == (200, "loaded")
    assert parents(server)["two"] == MODEL
    text = answer_of(server, "two")
    assert len({text, answer_of(server, "one"), answer_of(server, MODEL)}) == 3

    deaths = server.health()["progress"]["num_deaths"]
    assert server.http.post("/admin/restart").status_code == 202
    wait_for(lambda: server.http.get("/health/ready").status_code == 200)
    assert server.health()["progress"]["num_deaths"] == deaths
    assert answer_of(server, "two") == text

    gone = server.http.post(UNLOAD, json={"lora_name": "two"})
    assert (gone.status_code, gone.json()["status"]) == (200, "unloaded")
    refused = server.post("/v1/completions", prompt="x", model="two")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert "two" not in parents(server)


def test_another_file_under_an_old_name_answers_for_itself(server):
    """Prefixes of the adapter that had the name before are not its own."""
    texts = []
    for path in ("one.gguf", "two.gguf", "one.gguf"):
        body = {"lora_name": "any", "lora_path": path}
        assert server.http.post(LOAD, json=body).status_code == 200
        texts.append(answer_of(server, "any"))
        assert server.http.post(UNLOAD, json={"lora_name": "any"}).status_code == 200

    assert texts[0] == texts[2] == answer_of(server, "one")
    assert texts[1] != texts[0]


def test_a_scale_is_part_of_the_adapter(server):
    body = {"lora_name": "nothing", "lora_path": "one.gguf", "scale": 0.0}
    assert server.http.post(LOAD, json=body).status_code == 200
    assert answer_of(server, "nothing") == answer_of(server, MODEL)
    server.http.post(UNLOAD, json={"lora_name": "nothing"})


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (LOAD, {"lora_name": "x", "lora_path": "junk.gguf"}, 400, "lora_path"),
        (LOAD, {"lora_name": "x", "lora_path": "../outside.gguf"}, 400, "lora_path"),
        (LOAD, {"lora_name": "x", "lora_path": "nowhere.gguf"}, 400, "lora_path"),
        (LOAD, {"lora_name": "x", "lora_path": "."}, 400, "lora_path"),
        (LOAD, {"lora_name": "x\ny", "lora_path": "one.gguf"}, 400, "lora_name"),
        (LOAD, {"lora_name": "x", "lora_path": "a\0b"}, 400, "lora_path"),
        (LOAD, {"lora_name": "x", "lora_path": "a" * 5000}, 400, "lora_path"),
        (LOAD, {"lora_name": "x", "lora_path": "/etc/passwd"}, 400, "lora_path"),
        (LOAD, {"lora_name": MODEL, "lora_path": "one.gguf"}, 400, "lora_name"),
        (LOAD, {"lora_name": "one", "lora_path": "one.gguf"}, 400, "lora_name"),
        (LOAD, {"lora_name": "", "lora_path": "one.gguf"}, 400, "lora_name"),
        (LOAD, {"lora_path": "one.gguf"}, 400, "lora_name"),
        (LOAD, {"lora_name": "x", "lora_path": "one.gguf", "scale": 1e9}, 400, "scale"),
        (LOAD, {"lora_name": "x", "lora_path": "one.gguf", "scale": 10**30}, 400, "scale"),
        (LOAD, {"lora_name": 10**30, "lora_path": "one.gguf"}, 400, "lora_name"),
        (UNLOAD, {"lora_name": 10**30}, 400, "lora_name"),
        (LOAD, {"lora_name": "x", "lora_path": "one.gguf", "load_inplace": True}, 400, None),
        (LOAD, {"lora_name": "x", "lora_path": "one.gguf", "base_model_name": "y"}, 404, "model"),
        (UNLOAD, {"lora_name": "x"}, 404, "lora_name"),
        (UNLOAD, {"lora_name": MODEL}, 404, "lora_name"),
        (UNLOAD, {}, 400, "lora_name"),
    ],
)
def test_a_mistake_is_named(server, path, body, status, param):
    before = parents(server)

    response = server.http.post(path, json=body)

    assert response.status_code == status, response.text
    if param is not None:
        assert response.json()["error"]["param"] == param
    assert parents(server) == before


@pytest.mark.parametrize("path", [LOAD, UNLOAD])
def test_a_user_may_not(server, keys, path):
    body = {"lora_name": "x", "lora_path": "one.gguf"}
    refused = server.http.post(path, json=body, headers=bearer(keys["user"]))
    assert refused.status_code == 403


def test_without_the_setting_there_is_nothing_to_load_with(folder, keys):
    auth = AuthSettings(keys_file=str(folder.parent / "keys.toml"), monitoring="open")
    with running_server(scripted_settings(auth=auth)) as server:
        body = {"lora_name": "x", "lora_path": "one.gguf"}
        refused = server.http.post(LOAD, json=body, headers=bearer(keys["boss"]))
        assert refused.status_code == 403
        assert "engine.llama_cpp.lora.folder" in refused.json()["error"]["message"]
