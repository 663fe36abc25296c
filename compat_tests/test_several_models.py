"""Several models in one server, as its users run it."""

import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from compat_tests.conftest import MODEL, Server, serve
from tests.kit.command_line import posix
from tests.kit.serving import wait_for

OTHER = "gemma-3-270m"

TWO_REAL = f"""
[engine]
max_model_len = 2048
prefix_cache_gb = 0.05
[models.coder]
name_or_path = "{MODEL}"
memory_gb = 1
[models.other]
name_or_path = "{OTHER}"
memory_gb = 1
[loading]
max_memory_gb = 1.9
"""

SCRIPTED = """
[engine]
name = "scripted"
scripted.load_ms = 3000
[models.a]
[models.b]
"""


def complete(server: Server, model: str) -> str:
    body: dict[str, Any] = {"model": model, "prompt": "def add(a, b):\n", "max_tokens": 16}
    response = server.http.post("/v1/completions", json={**body, "temperature": 0}, timeout=300)
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["completion_tokens"] == 16
    return str(response.json()["choices"][0]["text"])


def states(server: Server) -> dict[str, str]:
    models = server.http.get("/health").json()["models"]
    return {name: each["state"] for name, each in models.items()}


def memory(server: Server) -> int:
    """What the server and its engines have resident, in bytes."""
    process = psutil.Process(server.process.pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


def alone(server: Server, model: str) -> str:
    """What a model says for which the other one makes room."""
    text = complete(server, model)
    assert [name for name, state in states(server).items() if state == "ready"] == [model]
    return text


@pytest.fixture
def config(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    file = tmp_path / "several.toml"
    file.write_text(request.param, encoding="utf-8")
    return str(file)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("config", [TWO_REAL], indirect=True)
def test_two_real_models_with_room_for_one(config: str) -> None:
    """Each comes back as it was, and nothing of an unloaded model is left but its file."""
    with serve("--config", config, "--set", "models.coder.idle_seconds=1") as server:
        before = memory(server)
        coder = complete(server, "coder")
        largest = memory(server)
        other = alone(server, "other")
        assert coder.strip()
        assert other.strip()
        assert coder != other
        assert alone(server, "coder") == coder
        wait_for(lambda: set(states(server).values()) == {"unloaded"}, 60)
        left = memory(server) - before
        assert left < 0.25 * (largest - before), "only the gateway's own is left"


@posix
@pytest.mark.parametrize("config", [SCRIPTED], indirect=True)
def test_a_request_that_waits_for_its_model_is_finished_before_the_end(config: str) -> None:
    answers: list[httpx.Response] = []

    def ask(name: str) -> None:
        body = {"model": name, "prompt": "x", "max_tokens": 16}
        answers.append(server.http.post("/v1/completions", json=body))

    with serve("--config", config) as server:
        threads = [threading.Thread(target=ask, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        wait_for(lambda: set(states(server).values()) == {"loading"})
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert server.process.wait(30) == 0
