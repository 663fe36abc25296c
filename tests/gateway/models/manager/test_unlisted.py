"""Models that requests may name although the settings do not."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.settings.schema import LoadingSettings
from runtime.models.catalogue import shipped_catalogue
from tests.kit.models.tiny_model import write_tiny_model
from tests.kit.serving import RunningServer, running_server, scripted_settings

PRESENT, ABSENT = shipped_catalogue()[:2]


@pytest.fixture(params=[True, False])
def allowed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def ask(server: RunningServer, name: str) -> httpx.Response:
    return server.post("/v1/completions", model=name, prompt="x", max_tokens=2)


def test_names_and_never_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    """The scripted engine takes a model's tokenizer, which a file of the right size stands for."""
    write_tiny_model(tmp_path / PRESENT.file)
    write_tiny_model(tmp_path / "plain")
    content = (tmp_path / PRESENT.file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    entry = msgspec.structs.replace(PRESENT, size=len(content), sha256=digest)
    for module in ("runtime.models.store", "gateway.models.manager.factory"):
        monkeypatch.setattr(f"{module}.shipped_catalogue", lambda: [entry, ABSENT])
    monkeypatch.chdir(tmp_path)
    settings = msgspec.structs.replace(
        scripted_settings(model={"folder": str(tmp_path)}),
        loading=LoadingSettings(allow_unlisted=allowed),
    )
    with running_server(settings) as server:
        for name in (str(tmp_path / PRESENT.file), PRESENT.file, "plain", "./plain", ABSENT.name):
            assert ask(server, name).status_code == 404, name
        response = ask(server, PRESENT.name)
        assert response.status_code == (200 if allowed else 404), response.text
        listed: list[dict[str, Any]] = server.http.get("/v1/models").json()["data"]
        assert (PRESENT.name in [each["id"] for each in listed]) == allowed
