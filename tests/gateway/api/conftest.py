"""Servers of one token per byte, and the official client."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from gateway.settings.schema import ServerSettings
from tests.gateway.api.harness import SENTENCE, WHOLE_ANSWER, strict_client
from tests.kit.serving import RunningServer, running_server, scripted_settings, tensorrt_settings
from tests.kit.tensorrt_double import EARLY, LATE, STABLE, findable

ENGINES = [
    "scripted",
    *(pytest.param(each, marks=pytest.mark.slow) for each in (STABLE, EARLY)),
    LATE,
]
"""The scripted engine, and TensorRT-LLM's on the double of these releases."""


@pytest.fixture(scope="package", params=ENGINES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Fast, and never full; on each engine."""
    server = ServerSettings(max_body_bytes=100_000)
    engine = {"max_num_waiting": 1000, "max_model_len": 2048}
    if request.param == "scripted":
        settings = scripted_settings(server=server, engine=engine, text=SENTENCE)
        with running_server(settings) as running:
            yield running
        return
    folder = tmp_path_factory.mktemp("model")
    settings = tensorrt_settings(folder, SENTENCE, server=server, engine=engine)
    with findable(request.param), running_server(settings, model_path=str(folder)) as running:
        yield running


@pytest.fixture(scope="package")
def slow_server() -> Iterator[RunningServer]:
    """20 ms a token, room for one request and a place to wait for another."""
    settings = scripted_settings(
        server=ServerSettings(keep_alive_interval=60),
        engine={"max_num_seqs": 1, "max_num_waiting": 1},
        step_ms=20,
    )
    with running_server(settings) as running:
        yield running


@pytest.fixture(scope="package")
def ending_server() -> Iterator[RunningServer]:
    """Its answers come to an end by themselves."""
    settings = scripted_settings(
        engine={"max_model_len": 500}, text=WHOLE_ANSWER, num_tokens=len(WHOLE_ANSWER.encode())
    )
    with running_server(settings) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[OpenAI]:
    """The official client, refusing whatever does not fit its types."""
    with strict_client(server) as client:
        yield client
