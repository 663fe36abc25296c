"""A hub on loopback, and the models of a small repository."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.models.repositories import client
from runtime.models.repositories.listing import Form
from runtime.models.repositories.place import find_place
from runtime.models.repositories.pull import Wants
from runtime.models.store import ModelStore
from tests.kit.hub.server import FakeHub, running_hub

OpenStore = Callable[..., ModelStore]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """Nothing of the environment's leads to the real hub or to its cache."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.001)
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "own"))
        yield hub


@pytest.fixture
def store(hub: FakeHub, tmp_path: Path) -> OpenStore:
    """Opens the store of an empty folder, of the hub and of its cache."""

    def open_store(form: Form = "any", memory: int = 0, *, is_offline: bool = False) -> ModelStore:
        return ModelStore(
            tmp_path / "models",
            catalogue=(),
            place=find_place(is_offline=is_offline),
            wants=Wants(form=form, memory=memory),
        )

    return open_store
