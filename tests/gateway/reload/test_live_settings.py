"""Every setting that is said to be live takes effect while the server runs, and back again."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from gateway.reload.effects import EFFECTS
from tests.kit.api_keys import bearer, write_keys
from tests.kit.command_line import ADMIN
from tests.kit.reloading import Reloadable, reloadable_server
from tests.kit.serving import MODEL, PATIENCE

STEP_MS = 20.0
CHAT = "/v1/chat/completions"
BASE = {
    "engine.scripted.step_ms": STEP_MS,
    "server.max_body_bytes": 100_000,
    "server.watch_files": False,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloadable]:
    folder = tmp_path_factory.mktemp("live")
    old = write_keys(folder / "old.toml", alice={})
    new = write_keys(folder / "new.toml", bob={})
    base = {**BASE, "auth.keys_file": str(folder / "old.toml")}
    with reloadable_server(folder, base) as running:
        running.keys = {**old, **new}
        yield running


def code_of(response: httpx.Response) -> str:
    return str(response.json().get("error", {}).get("code", ""))


def of_long_body(server: Reloadable) -> int:
    return server.chat("x" * 3000, max_tokens=1).status_code


def of_second_large_body(server: Reloadable) -> int:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 90000\r\n\r\n"
    with closing(server.connect()) as first:
        first.sendall(head.encode())
        deadline = time.monotonic() + PATIENCE
        while not server.context.bounds.body_memory.num_bytes:
            assert time.monotonic() < deadline
        return server.chat("x" * 90_000, max_tokens=1).status_code


def of_long_headers(server: Reloadable) -> int:
    return server.http.get("/health/live", headers={"x-long": "x" * 3000}).status_code


def code_of_chat(server: Reloadable) -> str:
    return code_of(server.chat(max_tokens=1))


def has_comments(server: Reloadable) -> bool:
    return "\n:" in "\n" + server.chat(max_tokens=3, stream=True).text


def code_of_slow_chat(server: Reloadable) -> str:
    return code_of(server.chat(max_tokens=25))


def answer_to(sent: str, within: float = 1.0) -> Callable[[Reloadable], bytes]:
    """What the server says to a client that sends this and then waits; nothing if it waits too."""

    def read(server: Reloadable) -> bytes:
        with closing(server.connect()) as connection:
            connection.settimeout(within)
            connection.sendall(sent.encode())
            try:
                while not (data := connection.recv(4096)).startswith(b"HTTP/1.1 408"):
                    if not data:
                        return b"closed"
            except TimeoutError:
                return b""
            return b"408"

    return read


LIVE = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
NO_BODY = (
    f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n"
    "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
)


def status_for_bob(server: Reloadable) -> int:
    return server.http.get("/v1/models", headers=bearer(server.keys["bob"])).status_code


def status_of_metrics_for_all(server: Reloadable) -> int:
    return httpx.get(f"{server.url}/metrics").status_code


def allowed_origin(server: Reloadable) -> str:
    header = {"Origin": "https://chat.example"}
    answer = server.http.get("/health/live", headers=header)
    return str(answer.headers.get("access-control-allow-origin", ""))


def names(server: Reloadable) -> list[str]:
    return [model["id"] for model in server.http.get("/v1/models").json()["data"]]


def has_fingerprint(server: Reloadable) -> bool:
    return bool(server.chat(max_tokens=1).json().get("system_fingerprint"))


def stores_responses(server: Reloadable) -> bool:
    answer = server.http.post("/v1/responses", json={"input": "hi", "max_output_tokens": 1})
    return bool(answer.json()["store"])


def stores_chats(server: Reloadable) -> bool:
    made = server.chat(max_tokens=1).json()["id"]
    return server.http.get(f"{CHAT}/{made}").status_code == 200


def keys_in_metrics(server: Reloadable) -> bool:
    server.http.post(
        CHAT,
        json={"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
        headers=bearer(server.keys["alice"]),
    )
    return 'key="alice"' in server.http.get("/metrics").text


def kept(read: Callable[[Any], object]) -> Callable[[Reloadable], object]:
    """What a part of the server keeps of the settings, where only time or an accident shows it."""
    return lambda server: read(server.context)


def is_matryoshka(server: Reloadable) -> bool:
    return asyncio.run(server.context.model.is_matryoshka())


PROBES: dict[str, tuple[Any, Callable[[Reloadable], object], object]] = {
    "server.max_body_bytes": (2000, of_long_body, 413),
    "server.max_bodies_bytes": (100_000, of_second_large_body, 503),
    "server.max_body_values": (3, code_of_chat, "request_too_large"),
    "server.max_body_entries": (1, code_of_chat, "request_too_large"),
    "server.drain_timeout": (7.5, kept(lambda context: context.drain.timeout), 7.5),
    "server.keep_alive_interval": (0.005, has_comments, True),
    "server.keep_alive_timeout": (1, answer_to(LIVE, within=3), b"closed"),
    "server.max_header_bytes": (2000, of_long_headers, 431),
    "server.header_timeout": (0.1, answer_to("GET / HT"), b"408"),
    "server.body_timeout": (0.1, answer_to(NO_BODY), b"408"),
    "server.write_timeout": (
        2.5,
        lambda server: server.config.http.limits.write_timeout,
        2.5,
    ),
    "server.request_timeout": (0.1, code_of_slow_chat, "request_timeout"),
    "server.cors_allow_origins": (
        ["https://chat.example"],
        allowed_origin,
        "https://chat.example",
    ),
    "auth.keys_file": ("new.toml", status_for_bob, 200),
    "auth.monitoring": ("open", status_of_metrics_for_all, 200),
    "model.aliases": ({"gpt-4o": MODEL}, names, [MODEL, "gpt-4o"]),
    "model.thinking_token_budget": (
        7,
        kept(lambda context: context.model.default_thinking_budget),
        7,
    ),
    "model.truncation": ("auto", kept(lambda context: context.model.truncation), "auto"),
    "model.system_fingerprint": (False, has_fingerprint, False),
    "model.is_matryoshka": (True, is_matryoshka, True),
    "engine.max_num_waiting_tokens": (
        5,
        kept(lambda context: context.model.engine.max_num_waiting_tokens),
        5,
    ),
    "engine.max_queue_seconds": (
        3.5,
        kept(lambda context: context.settings.engine.max_queue_seconds),
        3.5,
    ),
    "store.responses": (False, stores_responses, False),
    "store.chat_completions": (True, stores_chats, True),
    "metrics.max_keys": (3, keys_in_metrics, True),
}

ELSEWHERE = {
    "server.allow_unauthenticated": "test_changed_files",
    "server.allowed_hosts": "test_changed_files",
    "server.tls_certificate": "test_certificates",
    "server.tls_key": "test_certificates",
    "server.watch_files": "test_changed_files",
    "engine.max_restarts": "test_changed_settings of the supervisor",
    "engine.restart_window": "test_changed_settings of the supervisor",
    "engine.failed_retry_interval": "test_changed_settings of the supervisor",
    "gpu.interval": "test_gpu_monitor",
    "gpu.min_free_memory_gb": "test_gpu_monitor",
    "gpu.devices": "test_gpu_monitor",
    "store.keep_days": "test_kept_objects",
    "store.max_gb": "test_kept_objects",
    "log.level": "test_log_of_a_running_server",
    "log.format": "test_log_of_a_running_server",
    "log.prompts": "test_log_of_a_running_server",
    "log.access": "test_log_of_a_running_server",
    "prices": "test_budgets_of_keys of admission",
}
"""The modules that try settings which need a server, or a part, of their own."""


def test_every_live_setting_is_tried():
    live = {path for path, effect in EFFECTS.items() if effect == "live"}
    assert live == PROBES.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("path", PROBES)
def test_a_live_setting_takes_effect_and_goes_back(server: Reloadable, path: str):
    value, probe, expected = PROBES[path]
    if path == "auth.keys_file":
        value = str(server.file.parent / value)
    before = probe(server) if path != "server.keep_alive_timeout" else b""
    assert before != expected
    server.write(**{path.replace(".", "__"): value})
    report = server.reload()
    assert (report.status_code, report.json()["errors"]) == (200, [])
    assert path in report.json()["applied"]
    assert probe(server) == expected
    server.write()
    assert path in server.reload().json()["applied"]
    if path not in ("server.keep_alive_timeout", "metrics.max_keys"):
        assert probe(server) == before
