"""A hub on loopback, and the store of an empty folder beside it."""

from pathlib import Path

import pytest

from runtime.models.repositories.listing import Form
from runtime.models.repositories.pull import Wants
from runtime.models.store import ModelStore
from tests.kit.hub.environment import hub_of
from tests.kit.hub.server import FakeHub
from tests.kit.hub.stores import OpenStore

hub = pytest.fixture(hub_of)


@pytest.fixture
def store(hub: FakeHub, tmp_path: Path) -> OpenStore:
    """Opens the store of an empty folder, of the hub and of its cache."""

    def open_store(form: Form = "any", memory: int = 0, *, is_offline: bool = False) -> ModelStore:
        return ModelStore(
            tmp_path / "models",
            catalogue=(),
            is_offline=is_offline,
            wants=Wants(form=form, memory=memory),
        )

    return open_store
