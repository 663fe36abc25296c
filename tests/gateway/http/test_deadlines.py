"""`server.request_timeout`, over real HTTP: an answer may take so long, waiting included."""

import json

from gateway.settings.schema import ServerSettings
from tests.kit.chat.answers import HI
from tests.kit.serving import RunningServer, scripted_settings, server_of, wait_for

server = server_of(
    scripted_settings(
        server=ServerSettings(request_timeout=1.0), engine={"max_num_seqs": 1}, step_ms=20
    )
)
"""A second for an answer, of which the engine makes 50 tokens in a second, one at a time."""


def test_a_long_answer_is_given_up(server: RunningServer):
    response = server.chat(max_tokens=1000)

    assert response.status_code == 504
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("request_timeout", "server_error")
    assert "server.request_timeout" in error["message"]
    wait_for(lambda: server.health()["num_requests_in_flight"] == 0)
    assert server.chat(max_tokens=3).status_code == 200


def test_a_long_stream_ends_with_an_error(server: RunningServer):
    response = server.post("/v1/chat/completions", messages=HI, max_tokens=1000, stream=True)

    assert response.status_code == 200
    events = response.text.removesuffix("\n\n").split("\n\n")
    assert events.pop() == "data: [DONE]"
    *chunks, last = (json.loads(event.removeprefix("data: ")) for event in events)
    assert last["error"]["code"] == "request_timeout"
    assert 5 < len(chunks) < 100
    wait_for(lambda: server.health()["num_requests_in_flight"] == 0)


def test_waiting_counts(server: RunningServer):
    """Who never had a turn is given up at the same time."""
    with server.connect() as first:
        body = json.dumps({"model": "acme/parrot", "prompt": "a", "max_tokens": 1000})
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        first.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n{body}".encode())
        wait_for(lambda: server.health()["num_requests_in_flight"] == 1)
        server.http.timeout = 5
        waited = server.chat(max_tokens=49)

    assert waited.status_code == 504, waited.text
