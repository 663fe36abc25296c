"""Servers that the tests of this room share."""

from collections.abc import Iterator

import pytest

from gateway.settings.schema import AuthSettings
from tests.kit.api_keys import write_keys
from tests.kit.guarded import KEYS, Guarded
from tests.kit.serving import (
    RunningServer,
    running_server,
    scripted_settings,
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys = write_keys(file, **KEYS)
    settings = scripted_settings(auth=AuthSettings(keys_file=str(file)))
    with running_server(settings) as server:
        yield Guarded(server, keys)


@pytest.fixture(scope="module")
def open_server() -> Iterator[RunningServer]:
    with running_server(scripted_settings()) as server:
        yield server
