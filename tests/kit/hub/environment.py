"""The environment of tests in which the hub on loopback is the hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import utils

from runtime.models.repositories import client
from tests.kit.hub.server import FakeHub, running_hub

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def _forget_connections() -> None:
    """The hub's own library keeps connections, also those from a time when it was offline."""
    names = ("reset_sessions", "close_session")  # of its older and of its newer releases
    for forget in filter(None, (getattr(utils, name, None) for name in names)):
        forget()


def hub_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A fixture: a hub, with an empty cache for it. Nothing leads to the real hub, or to caches of
    the one who runs the tests."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(client, "RETRY_SECONDS", 0.001)
    _forget_connections()
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "own"))
        yield hub
