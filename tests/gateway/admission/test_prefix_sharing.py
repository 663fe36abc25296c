"""Whose prompts a request may reuse, as clients see it in `cached_tokens`."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.app import with_prefix_caching
from gateway.settings.schema import AuthSettings
from tests.kit.api_keys import bearer, write_keys
from tests.kit.serving import MODEL, RunningServer, running_server, scripted_settings, tiny_settings

PROMPT = "A secret that somebody else has typed, long enough to fill more than one block. " * 2


@pytest.mark.parametrize(
    ("chosen", "has_keys", "found"),
    [
        ("auto", True, "per_tenant"),
        ("auto", False, "shared"),
        ("shared", True, "shared"),
        ("shared", False, "shared"),
        ("per_tenant", False, "per_tenant"),
        ("off", True, "off"),
    ],
)
def test_default_depends_on_keys(chosen: str, has_keys: bool, found: str) -> None:
    settings = scripted_settings(engine={"prefix_caching": chosen})
    assert with_prefix_caching(settings, has_keys=has_keys).engine.prefix_caching == found


def cached(server: RunningServer, key: str, prompt: str = PROMPT, **body: Any) -> int:
    """How much of the prompt was found."""
    answer = server.http.post(
        "/v1/completions",
        json={"model": MODEL, "prompt": prompt, "max_tokens": 1, **body},
        headers=bearer(key),
    )
    return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


def test_keys_learn_nothing_of_each_other(tiny_model_path: Path, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.toml", alice={}, bob={}, carol={}, dan={})
    settings = msgspec.structs.replace(
        tiny_settings(), auth=AuthSettings(keys_file=str(tmp_path / "keys.toml"))
    )
    with running_server(settings, model_path=str(tiny_model_path)) as server:
        assert cached(server, keys["alice"]) == 0
        assert cached(server, keys["alice"]) > 0
        guesses = {"bob": PROMPT, "carol": PROMPT + "?", "dan": PROMPT[:60] + "something else"}
        for name, guess in guesses.items():  # one for each, who would find their own
            assert cached(server, keys[name], guess) == 0, guess
        for wish in ({"user": "alice"}, {"cache_salt": "alice"}, {"cache_salt": '["alice"]'}):
            assert cached(server, keys["bob"], **wish) == 0, wish
        assert cached(server, keys["alice"], user="an end user") == 0


def test_without_keys_prompts_are_shared(tiny_model_path: Path) -> None:
    with running_server(tiny_settings(), model_path=str(tiny_model_path)) as server:
        assert cached(server, "one") == 0
        assert cached(server, "another") > 0
