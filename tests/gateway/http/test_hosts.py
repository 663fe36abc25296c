"""The `Host` of a request: one, and one that can be."""

from collections.abc import Iterator

import pytest

from tests.kit.raw_http import PARSERS, answer_to, error_code, head, responses, running_server_on
from tests.kit.serving import RunningServer, scripted_settings

LAST = head("GET /v1/models HTTP/1.1", "Host: x", "Connection: close")


@pytest.fixture(scope="module", params=PARSERS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_server_on(request.param, scripted_settings()) as running:
        yield running


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("X-Host: a",),
        ("Host: a", "Host: a"),
        ("Host: a", "host: evil.example"),
        ("Host: a", "Accept: */*", "HOST: b", "Host: c"),
        ("Host: a b",),
        ("Host: a/b",),
        ("Host: <a>",),
        ('Host: a"b',),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/health/live", "/nothing"])
def test_what_no_server_can_be_called_is_refused_in_the_envelope(
    server: RunningServer, hosts: tuple[str, ...], path: str
):
    received = answer_to(server, head(f"GET {path} HTTP/1.1", *hosts, "Connection: close"))
    ((answer, body),) = responses(received)
    assert answer.status == 400
    assert answer.getheader("content-type") == "application/json"
    # h11 refuses none, and more than one, by itself
    assert error_code(body) in {"invalid_host", "invalid_http"}


@pytest.mark.parametrize(
    "host", ["a", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "my_box", "a.local."]
)
def test_what_a_server_can_be_called_is_taken(server: RunningServer, host: str):
    received = answer_to(server, head("GET /v1/models HTTP/1.1", f"Host: {host}") + LAST)
    assert [answer.status for answer, _ in responses(received)] == [200, 200]


def test_http_1_0_needs_none(server: RunningServer):
    ((answer, _),) = responses(answer_to(server, head("GET /v1/models HTTP/1.0")))
    assert answer.status == 200
