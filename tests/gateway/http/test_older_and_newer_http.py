"""Clients that offer HTTP/2 or another protocol, and clients that speak HTTP/1.0."""

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.chat.answers import CHAT, HI
from tests.kit.raw_http import PARSERS, answer_to, chunked, head, responses, running_server_on
from tests.kit.serving import MODEL, RunningServer, parse_events, scripted_settings, text_of_chunks

BODY = json.dumps({"model": MODEL, "messages": HI, "max_tokens": 3}).encode()
STREAM = json.dumps(
    {"model": MODEL, "messages": HI, "max_tokens": 3, "stream": True, "ignore_eos": True}
).encode()
JAVA = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA")
WEBSOCKET = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
UNKNOWN = ("Upgrade: foo/2, bar", "Connection: upgrade")
TWICE = ("Upgrade: h2c", "upgrade: TLS/1.0", "Connection: Upgrade")
PLAIN = ()
LAST = head("GET /v1/models HTTP/1.1", "Host: x", "Connection: close")


@pytest.fixture(scope="module", params=PARSERS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    with running_server_on(request.param, scripted_settings()) as running:
        yield running


def chat(*headers: str, size: int = 0, body: bytes = BODY, version: str = "1.1") -> bytes:
    """A chat; with `size` its body comes in chunks."""
    length = "Transfer-Encoding: chunked" if size else f"Content-Length: {len(body)}"
    fixed = ("Host: x", "Content-Type: application/json", length)
    start = head(f"POST {CHAT} HTTP/{version}", *fixed, *headers)
    return start + (chunked(body, size) if size else body)


@pytest.mark.parametrize("offer", [JAVA, WEBSOCKET, UNKNOWN, TWICE])
@pytest.mark.parametrize("size", [0, 7])
def test_an_offer_of_another_protocol_is_declined_and_nothing_is_lost(
    server: RunningServer, offer: tuple[str, ...], size: int
):
    received = answer_to(server, chat(*offer, size=size), chat(*offer, size=size) + LAST)
    answers = responses(received)
    assert [answer.status for answer, _ in answers] == [200, 200, 200]
    assert json.loads(answers[1][1])["usage"]["completion_tokens"] == 3
    assert all(answer.getheader("upgrade") is None for answer, _ in answers)


def test_the_last_request_of_a_connection_may_offer_too(server: RunningServer):
    offer = ("Connection: close, Upgrade", "Upgrade: h2c")
    ((answer, body),) = responses(answer_to(server, chat(*offer)))
    assert answer.status == 200
    assert json.loads(body)["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("path", ["/v1/models", CHAT, "/v1/realtime", "/nothing"])
def test_a_route_without_websockets_answers_as_ever(server: RunningServer, path: str):
    offered = head(f"GET {path} HTTP/1.1", "Host: x", *WEBSOCKET)
    plain = head(f"GET {path} HTTP/1.1", "Host: x")
    answers = responses(answer_to(server, offered + plain + LAST))
    statuses = [answer.status for answer, _ in answers]
    assert len(statuses) == 3
    assert statuses[0] == statuses[1]


REQUESTS = st.lists(
    st.tuples(st.sampled_from([JAVA, WEBSOCKET, TWICE, PLAIN]), st.sampled_from([0, 1, 50])),
    min_size=1,
    max_size=4,
)


@given(requests=REQUESTS, cuts=st.lists(st.integers(1, 2000), max_size=6))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_request_of_a_connection_is_answered_however_its_bytes_arrive(
    server: RunningServer, requests: list[tuple[tuple[str, ...], int]], cuts: list[int]
):
    sent = b"".join(chat(*offer, size=size) for offer, size in requests) + LAST
    places = [0, *sorted({cut for cut in cuts if cut < len(sent)}), len(sent)]
    parts = [sent[a:b] for a, b in pairwise(places)]
    answers = responses(answer_to(server, *parts))
    assert [answer.status for answer, _ in answers] == [200] * (len(requests) + 1)
    assert all(json.loads(body)["usage"]["completion_tokens"] == 3 for _, body in answers[:-1])


@pytest.mark.parametrize("headers", [(), ("Connection: keep-alive",), JAVA])
def test_a_stream_over_http_1_0_is_plain_and_ends_with_the_connection(
    server: RunningServer, headers: tuple[str, ...]
):
    received = answer_to(server, chat(*headers, body=STREAM, version="1.0"))
    start, _, body = received.partition(b"\r\n\r\n")
    assert b" 200 OK" in start
    assert b"transfer-encoding" not in start.lower()
    assert b"content-length" not in start.lower()
    assert b"connection: close" in start.lower()
    events = parse_events(body.decode())
    assert len(text_of_chunks(events).encode()) == 3


@pytest.mark.parametrize("headers", [(), ("Connection: keep-alive",)])
def test_a_whole_answer_over_http_1_0_has_its_length(
    server: RunningServer, headers: tuple[str, ...]
):
    ((answer, body),) = responses(answer_to(server, chat(*headers, version="1.0")))
    assert answer.status == 200
    assert answer.getheader("content-length") == str(len(body))
    assert answer.getheader("connection") == "close"


def test_an_error_over_http_1_0_is_in_the_envelope(server: RunningServer):
    ((answer, body),) = responses(answer_to(server, chat(body=b"{", version="1.0")))
    assert answer.status == 400
    assert json.loads(body)["error"]["code"] == "invalid_json"


def test_head_over_http_1_0_has_no_body(server: RunningServer):
    received = answer_to(server, head("HEAD /v1/models HTTP/1.0"))
    assert received.endswith(b"\r\n\r\n")
    assert b"content-length" in received
