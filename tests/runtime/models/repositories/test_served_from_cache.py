"""A model of the hub that is served: its file is guarded by the hash that the hub has published."""

from pathlib import Path

import pytest

from gateway.models.manager.factory import weights_guard
from runtime.errors import ModelFileError
from runtime.models.integrity import guard
from tests.kit.hub.server import FakeHub
from tests.kit.hub.stores import OpenStore
from tests.kit.platform import IS_WINDOWS

CONTENT = b"GGUF" + bytes(1000)

pytestmark = pytest.mark.skipif(IS_WINDOWS, reason="without links there are no names of blobs")


def pulled(hub: FakeHub, store: OpenStore) -> Path:
    hub.add("u/r", {"m-Q8_0.gguf": CONTENT})
    return store().pull("u/r")


def test_it_is_not_read_again_when_it_was_just_pulled(
    hub: FakeHub, store: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    path = pulled(hub, store)
    monkeypatch.setattr(guard, "sha256", lambda path: pytest.fail("it was read"))
    found = weights_guard("u/r", str(path))
    assert found is not None
    found.check()
    found.close()
    assert [file.name for file in path.parent.iterdir()] == ["m-Q8_0.gguf"]


def test_other_content_is_refused_with_what_to_do(hub: FakeHub, store: OpenStore):
    path = pulled(hub, store)
    path.write_bytes(b"GGUF" + bytes(999) + b"x")
    found = weights_guard("u/r", str(path))
    assert found is not None
    with pytest.raises(ModelFileError, match=r"not the published one\. .* lockgate pull u/r\."):
        found.check()
    store().pull("u/r")
    found.check()
    found.close()


def test_a_path_is_served_as_it_is(hub: FakeHub, store: OpenStore):
    path = pulled(hub, store)
    path.write_bytes(b"GGUF" + bytes(999) + b"x")
    found = weights_guard(str(path), str(path))
    assert found is not None
    found.check()
    found.close()
