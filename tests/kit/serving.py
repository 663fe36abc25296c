"""A real server on a free port, in a thread: the only way to see streams and disconnects."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from gateway.admission.keys import open_key_ring
from gateway.app import create_app
from gateway.commands.serving.server import uvicorn_config
from gateway.settings.schema import (
    AuthSettings,
    ModelSettings,
    ServerSettings,
    Settings,
    StoreSettings,
)
from gateway.settings.source import SettingsSource
from runtime.config.engine import EngineConfig
from runtime.config.scripted import ScriptedConfig
from tests.kit.engines import ONE_THREAD
from tests.kit.models.tensorrt_model import write_tensorrt_model

MODEL = "acme/parrot"
PATIENCE = 20.0
"""Seconds until a condition that should come at once counts as never coming."""
READY_POLL = 0.03
"""Seconds between two questions whether a server is ready; one takes milliseconds on both sides."""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP: reading the system's certificates takes longer than most tests."""


def scripted_settings(
    *,
    server: ServerSettings | None = None,
    auth: AuthSettings | None = None,
    model: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
    store: StoreSettings | None = None,
    **scripted: Any,
) -> Settings:
    """The scripted engine with bytes for tokens, named MODEL."""
    return Settings(
        store=store or StoreSettings(),
        server=server or ServerSettings(),
        auth=auth or AuthSettings(),
        model=ModelSettings(**{"served_name": MODEL, **(model or {})}),
        engine=EngineConfig(name="scripted", scripted=ScriptedConfig(**scripted), **(engine or {})),
    )


def tiny_settings(**model: Any) -> Settings:
    """The embedded engine, for a model of `tiny_model`; named MODEL."""
    engine = EngineConfig(
        max_num_seqs=16,
        num_kv_tokens=16_384,
        max_model_len=2048,
        prefix_cache_disk_gb=0,
        llama_cpp=ONE_THREAD,
    )
    return Settings(model=ModelSettings(served_name=MODEL, **model), engine=engine)


def tensorrt_settings(
    folder: Path, text: str, *, server: ServerSettings, engine: dict[str, Any]
) -> Settings:
    """The TensorRT-LLM engine on its double, which says `text` again and again; bytes for tokens,
    named MODEL. The engine process has to find the double: `tests.kit.tensorrt_double.findable`."""
    say = list((text * (4096 // len(text.encode()) + 1)).encode())
    write_tensorrt_model(folder, begins_texts=True, say=say, certain=True, step_ms=0.5)
    return Settings(
        server=server,
        model=ModelSettings(served_name=MODEL, name_or_path=str(folder)),
        engine=EngineConfig(name="tensorrt_llm", **engine),
    )


class RunningServer:
    """Where the server is, and short ways to talk to it."""

    def __init__(self, port: int, config: uvicorn.Config | None = None) -> None:
        self.port = port
        self.config = config
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, verify=NO_TLS)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json={"model": MODEL, **body})

    def chat(self, content: str = "hi", **body: Any) -> httpx.Response:
        messages = [{"role": "user", "content": content}]
        return self.post("/v1/chat/completions", messages=messages, **body)

    def chunks(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """All chunks of a stream, whose end is checked."""
        response = self.post(path, stream=True, **body)
        assert response.status_code == 200, response.text
        return parse_events(response.text)

    def health(self) -> dict[str, Any]:
        health: dict[str, Any] = self.http.get("/health").json()
        return health

    def metric(self, name: str) -> float:
        """The sum of a metric over all samples that have the labels written out, `name{a="b"}`."""
        name, _, written = f"lockgate_{name}".partition("{")
        wanted = {label.strip() for label in written.rstrip("}").split('",') if label}
        wanted = {label if label.endswith('"') else f'{label}"' for label in wanted}
        lines = self.http.get("/metrics").text.splitlines(keepends=True)
        its_own = "".join(line for line in lines if line.startswith(name))
        values = [
            sample.value
            for family in text_string_to_metric_families(its_own)
            for sample in family.samples
            if sample.name == name
            and wanted <= {f'{label}="{value}"' for label, value in sample.labels.items()}
        ]
        assert values, f"no metric {name} with {wanted}"
        return sum(values)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)


@contextmanager
def running_server(
    settings: Settings,
    *,
    wait_until_ready: bool = True,
    model_path: str | Mapping[str, str] = "",
    source: SettingsSource | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[RunningServer]:
    """Serve until the end of the block; nothing of it is left then. `environ` may hold keys."""
    listener = socket.create_server(("127.0.0.1", 0))
    keys = open_key_ring(settings.auth, dict(environ))
    app = create_app(settings, model_path, keys, source=source)
    config = uvicorn_config(app, settings.server)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    running = RunningServer(listener.getsockname()[1], config)
    try:
        wait_for(lambda: server.started)
        if wait_until_ready:
            wait_for(lambda: running.http.get("/health/ready").status_code == 200, every=READY_POLL)
        yield running
    finally:
        running.http.close()
        server.should_exit = True
        thread.join()
        listener.close()


def server_of(settings: Settings) -> Any:
    """A fixture: a server that the tests of a module share."""

    @pytest.fixture(scope="module")
    def server() -> Iterator[RunningServer]:
        with running_server(settings) as running:
            yield running

    return server


def wait_for(
    condition: Callable[[], bool], timeout: float = PATIENCE, *, every: float = 0.01
) -> None:
    """Ask until it is so, `every` so many seconds, for `timeout` seconds at most."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(every)


def parse_events(text: str) -> list[dict[str, Any]]:
    """The data of every event; the last one is [DONE]."""
    assert text.endswith("\n\n")
    events = [event for event in text[:-2].split("\n\n") if not event.startswith(":")]
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    data = [event.removeprefix("data: ") for event in events]
    assert data.pop() == "[DONE]"
    return [json.loads(item) for item in data]


def raw_request(path: str, body: dict[str, Any], *headers: str) -> bytes:
    """A POST as it goes down a socket."""
    encoded = json.dumps({"model": MODEL, **body}).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: test",
        "Content-Type: application/json",
        f"Content-Length: {len(encoded)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + encoded


def text_of_chunks(chunks: list[dict[str, Any]], index: int = 0) -> str:
    """What a choice of a streamed chat or completion said."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    mine = [choice for choice in choices if choice["index"] == index]
    return "".join(c["delta"].get("content", "") if "delta" in c else c["text"] for c in mine)
