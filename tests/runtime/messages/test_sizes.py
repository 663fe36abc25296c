"""Lists and texts that keep an engine busy are bounded, by name."""

from typing import Any

import pytest

from runtime.client.engine_client import EngineClient
from runtime.errors import InvalidRequest
from runtime.messages.sizes import (
    MAX_STOP_CHARS,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKEN_IDS,
    check_sizes,
)
from runtime.messages.wire import RequestFailed
from tests.kit.engines import READY, a_request, scripted_core

LARGEST: list[dict[str, Any]] = [
    {"stop": ("a" * MAX_STOP_CHARS,) * MAX_STOP_STRINGS},
    {"stop_token_ids": tuple(range(MAX_STOP_TOKEN_IDS))},
]
TOO_LARGE: list[tuple[str, dict[str, Any]]] = [
    ("stop", {"stop": ("a",) * (MAX_STOP_STRINGS + 1)}),
    ("stop", {"stop": ("b", "a" * (MAX_STOP_CHARS + 1))}),
    ("stop_token_ids", {"stop_token_ids": (1,) * (MAX_STOP_TOKEN_IDS + 1)}),
]


@pytest.mark.parametrize("fields", LARGEST)
def test_what_is_as_large_as_it_may_be_is_taken(fields: dict[str, Any]) -> None:
    check_sizes(a_request(**fields))


@pytest.mark.parametrize(("param", "fields"), TOO_LARGE)
def test_what_is_larger_is_refused_on_both_sides_of_the_border(
    param: str, fields: dict[str, Any]
) -> None:
    client = EngineClient()
    client.connected(lambda _: None, READY)
    with pytest.raises(InvalidRequest, match="at most") as caught:
        client.submit([a_request(**fields)])
    assert caught.value.param == param
    assert client.num_in_flight == 0

    core = scripted_core("text")
    core.submit(a_request(**fields))
    [refusal] = core.take_messages()
    assert isinstance(refusal, RequestFailed)
    assert (refusal.kind, refusal.param) == ("invalid", param)
