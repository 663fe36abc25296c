"""The first line of a request: whole URLs, `*`, what is no target, and versions."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.connections.limits import MAX_TARGET_BYTES
from gateway.http.connections.targets import to_origin_form
from tests.kit.raw_http import PARSERS, answer_to, error_code, head, responses, running_server_on
from tests.kit.serving import RunningServer, scripted_settings

NEXT = head("GET /v1/models HTTP/1.1", "Host: x", "Connection: close")


@pytest.fixture(scope="module", params=PARSERS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_server_on(request.param, scripted_settings()) as running:
        yield running


def status_of(server: RunningServer, line: str, *headers: str) -> int:
    """Of a request after which the connection goes on."""
    first, _ = responses(answer_to(server, head(line, *headers) + NEXT))
    return first[0].status


@pytest.mark.parametrize("host", ["x", "x:80", "127.0.0.1:1234", "[::1]:8000", ""])
@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
@pytest.mark.parametrize(
    "path", ["/health/live", "/v1/models?a=http://b/c", "/models", "//v1/models"]
)
def test_a_whole_url_is_a_target(server: RunningServer, scheme: str, host: str, path: str):
    assert status_of(server, f"GET {scheme}://{host or 'a'}{path} HTTP/1.1", "Host: x") == 200


def test_the_host_in_a_url_counts(server: RunningServer):
    asked = "GET http://{}/v1/models HTTP/1.1"
    assert status_of(server, asked.format("evil.example"), "Host: x") == 403
    assert status_of(server, asked.format("x"), "Host: evil.example") == 200


def test_a_url_without_a_path_asks_for_the_root(server: RunningServer):
    assert status_of(server, "GET http://x HTTP/1.1", "Host: x") == 404
    assert status_of(server, "GET http://x?a=b HTTP/1.1", "Host: x") == 404


@pytest.mark.parametrize("target", ["*", "http://x"])
def test_options_of_the_server(server: RunningServer, target: str):
    sent = head(f"OPTIONS {target} HTTP/1.1", "Host: x") + NEXT
    (answer, body), _ = responses(answer_to(server, sent))
    assert (answer.status, body) == (204, b"")
    assert answer.getheader("allow") == "DELETE, GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize("start", ["/v1/models?", "/" * 50, "/%F0", "http://x/"])
def test_a_target_has_a_longest_length(server: RunningServer, start: str):
    """The connection ends with the refusal."""
    target = start.ljust(MAX_TARGET_BYTES, "a")
    assert status_of(server, f"GET {target} HTTP/1.1", "Host: x") in (200, 404)
    sent = head(f"GET {target}a HTTP/1.1", "Host: x") + NEXT
    [(answer, body)] = responses(answer_to(server, sent))
    assert (answer.status, error_code(body)) == (414, "uri_too_long")


def test_options_of_the_server_are_not_for_strange_pages(server: RunningServer):
    asked = ("Host: x", "Origin: http://evil.example", "Access-Control-Request-Method: POST")
    assert status_of(server, "OPTIONS * HTTP/1.1", *asked) == 403


@pytest.mark.parametrize(
    "line",
    ["GET *", "POST *", "GET foo:bar", "CONNECT x:443", "GET health/live", "GET ftp://x/health"],
)
def test_what_is_no_target_is_refused_in_the_envelope(server: RunningServer, line: str):
    received = answer_to(server, head(f"{line} HTTP/1.1", "Host: x", "Connection: close"))
    ((answer, body),) = responses(received)
    assert answer.status in (400, 404)
    assert error_code(body) in {"invalid_target", "invalid_http", "unknown_url"}


@pytest.mark.parametrize("line", ["GET /health/live HTTP/2.0", "GET /health/live HTTP/0.9"])
def test_other_versions_are_refused(server: RunningServer, line: str):
    (answer, body), *_ = responses(answer_to(server, head(line, "Host: x")))
    assert answer.getheader("connection") == "close"
    assert (answer.status, error_code(body)) in {
        (505, "http_version_not_supported"),
        (400, "invalid_http"),
    }


PLAIN = st.from_regex(rb"/[a-z/%?=:.]*", fullmatch=True)


@given(path=PLAIN, host=st.from_regex(rb"[a-z.]+(:[0-9]+)?", fullmatch=True))
def test_any_path_is_the_same_in_a_url(path: bytes, host: bytes):
    headers = [(b"accept", b"a"), (b"host", b"other")]
    assert to_origin_form(b"GET", path, headers) == path
    assert headers[1] == (b"host", b"other")
    assert to_origin_form(b"GET", b"http://" + host + path, headers) == path
    assert headers == [(b"accept", b"a"), (b"host", host)]


@given(hosts=st.lists(st.just((b"host", b"a")), max_size=3))
def test_a_url_makes_up_for_no_host(hosts: list[tuple[bytes, bytes]]):
    headers = list(hosts)
    to_origin_form(b"GET", b"http://b/", headers)
    assert headers == ([(b"host", b"b")] if len(hosts) == 1 else hosts)
