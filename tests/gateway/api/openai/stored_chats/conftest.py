"""Servers that the tests of this room share, each with a memory of its own."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from gateway.settings.schema import AuthSettings, StoreSettings
from tests.kit.api_keys import write_keys
from tests.kit.openai.responses import SCRIPT, SENTENCE
from tests.kit.serving import RunningServer, running_server, scripted_settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path = tmp_path_factory.mktemp("store") / "store.db"
    settings = scripted_settings(
        engine={"max_model_len": 1000},
        model={"aliases": {"gpt-4o": "acme/parrot"}},
        store=StoreSettings(path=str(path)),
        text=SENTENCE,
        num_tokens=60,
    )
    with running_server(settings) as running:
        yield running


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Thinks, then calls."""
    path = tmp_path_factory.mktemp("store") / "store.db"
    settings = scripted_settings(
        model={"tool_dialect": "hermes", "reasoning_parser": "deepseek_r1"},
        store=StoreSettings(path=str(path)),
        text=SCRIPT,
        num_tokens=2 * len(SCRIPT.encode()),
    )
    with running_server(settings) as running:
        yield running


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, OpenAI]]:
    """Official clients with keys of their own; the boss is an admin."""
    folder = tmp_path_factory.mktemp("keys")
    keys = write_keys(folder / "keys.toml", ann={}, bob={}, boss={"role": "admin"})
    settings = scripted_settings(
        auth=AuthSettings(keys_file=str(folder / "keys.toml"), monitoring="open"),
        store=StoreSettings(path=str(folder / "store.db")),
    )
    with running_server(settings) as running:
        made = {
            name: OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)
            for name, key in keys.items()
        }
        yield made
        for client in made.values():
            client.close()
