"""What an attacker would try, against a real server with keys."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings.schema import AuthSettings
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import CHAT
from tests.kit.serving import MODEL, RunningServer, running_server, scripted_settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    return write_keys(folder / "keys.toml", alice={})["alice"]


@pytest.fixture(scope="module")
def server(folder: Path, key: str) -> Iterator[RunningServer]:
    settings = scripted_settings(auth=AuthSettings(keys_file=str(folder / "keys.toml")))
    with running_server(settings) as running:
        running.http.headers.update(bearer(key))
        yield running


def raw(server: RunningServer, request: bytes) -> bytes:
    """All that comes back until the server closes or says nothing more."""
    with server.connect() as client:
        client.settimeout(1.0)
        client.sendall(request)
        received = b""
        try:
            while data := client.recv(65_536):
                received += data
        except (TimeoutError, ConnectionResetError):
            pass
        return received


@pytest.mark.parametrize(
    "path",
    [
        *("/health/live/../../v1/models", "/health/live%2f..%2f..%2fv1/models", "//v1/models"),
        *("/v1/models/", "/v1//models", "/V1/MODELS", "/v1/models%00", "/admin/drain/"),
        *("/health/live;/v1/models", "/metrics?x=/health/live", "/v1/models#/health/live"),
    ],
)
def test_no_spelling_of_a_path_goes_around_the_keys(server: RunningServer, path: str):
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(server, request.encode())
    assert int(answer.split()[1]) in (400, 401, 404, 405)
    assert MODEL.encode() not in answer
    assert b"lockgate:" not in answer


@pytest.mark.parametrize(
    "given", ["a\rb", "x" * 10_000, "a b", "a;b", "<script>", "%0d%0aset-cookie:x", "", "\xe9"]
)
def test_request_ids_that_are_no_plain_tokens_are_not_sent_back(server: RunningServer, given: str):
    line = b"x-request-id: " + given.encode("latin-1")
    answer = raw(
        server,
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + line + b"\r\n\r\n",
    )
    assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400"))
    if answer.startswith(b"HTTP/1.1 200"):
        assert b"x-request-id: req_" in answer


TWO_LENGTHS = "Content-Length: 5\r\nContent-Length: 6\r\n"
BOTH = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        *(TWO_LENGTHS, BOTH, "Transfer-Encoding: xchunked\r\n", "Content-Length: +5\r\n"),
        *("Content-Length: 5, 6\r\n", "Transfer-Encoding: chunked, identity\r\n"),
        *("Content-Length : 5\r\n", "Content-Length: -1\r\n", "Content-Length: 0x5\r\n"),
    ],
)
def test_a_request_whose_end_is_unclear_hides_no_other(
    server: RunningServer, key: str, framing: str
):
    hidden = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n"
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    answer = raw(server, f"{head}{framing}\r\n0\r\n\r\n{hidden}".encode())
    assert MODEL.encode() not in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b" 200 " not in answer


def test_images_by_address_are_refused_and_nothing_connects(server: RunningServer):
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(0.2)
        url = f"http://127.0.0.1:{target.getsockname()[1]}/x.png"
        parts = [{"type": "image_url", "image_url": {"url": url}}]
        refused = server.post(CHAT, messages=[{"role": "user", "content": parts}])
        assert refused.status_code == 400
        with pytest.raises(TimeoutError):
            target.accept()


@pytest.mark.parametrize(
    "value",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for x in range(10**9) %}x{% endfor %}",
        {"__class__": "x"},
        ["{{ 7 * 7 }}"],
        10**100,
    ],
)
def test_variables_of_the_template_are_values_and_never_templates(server: RunningServer, value):
    messages = [{"role": "user", "content": json.dumps(value)}]
    answer = server.post(
        CHAT, messages=messages, max_tokens=2, chat_template_kwargs={"enable_thinking": value}
    )
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 200_000, 400),
        (b'{"model":' * 100_000, 400),
        (b"x" * 10_000_001, 413),
        (b'{"model": "' + b"m" * 1_000_000 + b'", "prompt": "x"}', 404),
    ],
)
def test_bodies_that_are_oversized(server: RunningServer, body: bytes, status: int):
    headers = {"Content-Type": "application/json"}
    answer = server.http.post("/v1/completions", content=body, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert server.http.get("/v1/models").status_code == 200
