"""What all tests of prefixes on disk share."""

import pytest

from runtime.engines.llama_cpp.kv.disk import restoring


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of this process wait for the disk however busy the machine is, so that what is read
    back can be counted."""
    monkeypatch.setattr(restoring, "PATIENCE_SECONDS", 1000.0)
