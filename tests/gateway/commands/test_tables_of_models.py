"""Mistakes in the tables of several models: which of them stop `lockgate serve`, and what the
others do."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gateway.__main__ import main
from tests.kit.api_keys import bearer
from tests.kit.command_line import ADMIN, greeting, start
from tests.kit.serving import PATIENCE, wait_for

pytestmark = pytest.mark.usefixtures("own_folder")

HI = [{"role": "user", "content": "hi"}]
HUB = {"HF_ENDPOINT": "http://127.0.0.1:9"}

MISTAKES = [
    ('name_or_path = "none.gguf"', "models.b.name_or_path: there is no model file none.gguf"),
    ('name_or_path = "text.gguf"', "models.b.name_or_path: text.gguf is not a GGUF file"),
    ('name_or_path = "folder"', "models.b.name_or_path: folder is a Hugging Face checkpoint"),
    ('name_or_path = "nobody/nothing"', "models.b.name_or_path: "),
    (
        'name_or_path = "tiny.gguf"\nengine.llama_cpp.library = "/no/lib.so"',
        "models.b.engine.llama_cpp.library: The library /no/lib.so cannot be read",
    ),
    (
        'name_or_path = "tiny.gguf"\nchat_template = "none.jinja"',
        "models.b.chat_template: none.jinja: No such file",
    ),
    (
        'name_or_path = "tiny.gguf"\nengine.llama_cpp.lora.adapters = {x = "text.gguf"}',
        "models.b: the adapter 'x': ",
    ),
    (
        'engine.name = "scripted"\ntokenizer = "none.gguf"',
        "models.b.tokenizer: there is no model file none.gguf",
    ),
]
"""Of files and libraries, which may be there later."""

WRONG_TABLE = (
    'name_or_path = "tiny.gguf"\ntokenizer = "x"',
    "models.b.tokenizer is for the scripted engine alone",
)


def write_settings(tmp_path: Path, tiny_model_path: Path, table: str, load: str) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    (tmp_path / "tiny.gguf").write_bytes(tiny_model_path.read_bytes())
    (tmp_path / "settings.toml").write_text(
        '[models.a]\nload = "start"\nengine.name = "scripted"\n'
        f'[models.b]\nload = "{load}"\n{table}\n'
    )


@contextmanager
def serving(folder: Path) -> Iterator[tuple[httpx.Client, Path]]:
    """A client of `lockgate serve`, and the file that has its log when the block has ended."""
    log = folder / "log"
    process = start(folder, "serve", "--port", "0", LOCKGATE_ADMIN_API_KEY=ADMIN, **HUB)
    try:
        found = re.findall(r"https?://\S+:\d+", greeting(process))
        assert found, process.stderr and process.stderr.read()
        with httpx.Client(base_url=found[0], headers=bearer(ADMIN), timeout=PATIENCE) as client:
            wait_for(lambda: client.get("/health/ready").status_code == 200)
            yield client, log
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
        log.write_text(errors)


def chat(client: httpx.Client, model: str) -> httpx.Response:
    body = {"model": model, "messages": HI, "max_tokens": 4}
    return client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize(("table", "message"), [*MISTAKES, WRONG_TABLE])
def test_a_mistake_of_a_model_that_is_loaded_at_once_stops_the_start(
    tmp_path: Path,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    table: str,
    message: str,
) -> None:
    write_settings(tmp_path, tiny_model_path, table, "start")
    for name, value in HUB.items():
        monkeypatch.setenv(name, value)
    assert main(["serve", "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lockgate: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("table", "message"), MISTAKES)
def test_a_mistake_of_a_model_that_is_loaded_later_is_a_warning(
    tmp_path: Path, tiny_model_path: Path, table: str, message: str
) -> None:
    write_settings(tmp_path, tiny_model_path, table, "demand")
    with serving(tmp_path) as (client, log):
        assert chat(client, "a").status_code == 200
        response = chat(client, "b")
        assert response.status_code == 503, response.text
        assert "`b` could not be loaded" in response.json()["error"]["message"]
        assert client.get("/health").json()["models"]["b"]["reason"]
        reload = client.post("/admin/reload")
        assert (reload.status_code, reload.json()["errors"]) == (200, [])
        assert chat(client, "a").status_code == 200
    warnings = [line for line in log.read_text().splitlines() if "model_not_usable" in line]
    [warning] = warnings
    assert message in warning


@pytest.mark.posix("Linux loads no library of Windows")
def test_a_file_that_comes_and_goes(tmp_path: Path, tiny_model_path: Path) -> None:
    write_settings(tmp_path, tiny_model_path, 'name_or_path = "late.gguf"', "never")
    late = tmp_path / "late.gguf"

    def load() -> str:
        client.post("/admin/models/b/load")
        end = time.monotonic() + PATIENCE
        while (state := client.get("/health").json()["models"]["b"]["state"]) == "loading":
            assert time.monotonic() < end
        return str(state)

    with serving(tmp_path) as (client, _):
        assert load() == "failed"
        late.write_bytes(tiny_model_path.read_bytes())
        assert load() == "ready"
        assert chat(client, "b").status_code == 200
        client.post("/admin/models/b/unload")
        wait_for(lambda: client.get("/health").json()["models"]["b"]["state"] == "unloaded")
        late.unlink()
        assert client.post("/admin/reload").status_code == 200
        assert load() == "failed"
