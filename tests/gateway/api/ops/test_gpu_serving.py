"""GPUs over HTTP: /health, /health/ready, /metrics, and requests refused for want of memory."""

import sys
from collections.abc import Iterator

import msgspec
import pytest

from gateway.app import min_free_bytes
from gateway.settings.schema import GpuSettings
from runtime.config.engine import EngineConfig
from tests.kit.fake_nvml import GIB, FakeGpu, FakeNvml
from tests.kit.serving import MODEL, RunningServer, running_server, scripted_settings, wait_for


@pytest.fixture
def gpu() -> FakeGpu:
    return FakeGpu(uuid="GPU-1")


@pytest.fixture
def server(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([gpu]))
    watching = GpuSettings(interval=0.1, min_free_memory_gb=1.0)
    settings = msgspec.structs.replace(scripted_settings(num_tokens=3), gpu=watching)
    with running_server(settings) as running:
        wait_for(lambda: bool(running.health()["gpus"]))
        yield running


def test_health_lists_the_gpus(server: RunningServer) -> None:
    health = server.health()
    (gpu,) = health["gpus"]
    assert (gpu["uuid"], gpu["memory_free"], gpu["temperature"]) == ("GPU-1", 4 * GIB, 65)
    assert gpu["processes"] == [{"pid": 4711, "memory_used": 7 * GIB}]
    assert health["gpu_problem"] == ""
    assert server.metric('gpu_memory_free_bytes{gpu="0"}') == 4 * GIB


def test_a_full_gpu_lets_nothing_in_until_there_is_room(
    server: RunningServer, gpu: FakeGpu
) -> None:
    assert server.chat().status_code == 200
    gpu["free"] = 999_999_999
    wait_for(lambda: server.http.get("/health/ready").status_code == 503)

    refused = [server.chat(), server.chat(stream=True), server.post("/v1/completions", prompt="x")]
    for response in refused:
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "gpu_memory_pressure"
        assert response.json()["error"]["type"] == "server_error"
        assert response.headers["retry-after"] == "5"
    assert server.metric('requests_rejected_total{reason="gpu_memory_pressure"}') == 3
    assert server.metric("gpu_memory_pressure") == 1
    assert server.health()["status"] == "unavailable"
    assert "GPU memory is nearly used up" in server.health()["reason"]
    # what the engine has no part in is served, and a wrong request is still the client's fault
    echo = server.post("/v1/completions", prompt="x", max_tokens=0, echo=True)
    assert echo.json()["choices"][0]["text"] == "x"
    assert server.chat(priority="urgent").status_code == 400

    gpu["free"] = 1_100_000_000
    wait_for(lambda: server.health()["gpus"][0]["memory_free"] == 1_100_000_000)
    assert server.chat().status_code == 503  # not yet: a quarter more has to be free
    gpu["free"] = 1_250_000_000
    wait_for(lambda: server.http.get("/health/ready").status_code == 200)
    assert server.chat().status_code == 200


def test_running_requests_go_on(gpu: FakeGpu, server: RunningServer) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        gpu["free"] = 0
        wait_for(lambda: server.metric("gpu_memory_pressure") == 1)
        assert "data: [DONE]" in list(lines)


def test_a_monitor_that_is_off_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml([FakeGpu(free=0)])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    off = GpuSettings(enabled=False, min_free_memory_gb=1.0)
    settings = msgspec.structs.replace(scripted_settings(num_tokens=3), gpu=off)
    with running_server(settings) as running:
        assert running.chat().status_code == 200
        health = running.health()
    assert nvml.num_opened == 0
    assert (health["gpus"], health["gpu_problem"]) == ([], "gpu.enabled is false")


@pytest.mark.parametrize(("minimum", "expected"), [("auto", 0), (0.0, 0), (0.5, 500_000_000)])
def test_without_the_tensorrt_engine_auto_is_off(minimum: float | str, expected: int) -> None:
    settings = msgspec.structs.replace(
        scripted_settings(), gpu=GpuSettings(min_free_memory_gb=minimum)
    )
    assert min_free_bytes(settings) == expected


def test_beside_the_tensorrt_engine_auto_is_what_the_engine_leaves() -> None:
    engine = msgspec.structs.replace(EngineConfig(), name="tensorrt_llm")
    settings = msgspec.structs.replace(scripted_settings(), engine=engine)
    assert min_free_bytes(settings) is None
