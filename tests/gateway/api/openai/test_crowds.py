"""Many clients, clients that leave, queues that are full, over real HTTP."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.gateway.api.harness import check_error, is_idle, strict_client
from tests.kit.chat.answers import CHAT, HI, TEXT
from tests.kit.serving import MODEL, parse_events, raw_request, text_of_chunks, wait_for


def test_many_streams_on_one_connection(server):
    """The end of a stream leaves the connection fit for the next request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.connect()
    first_socket = connection.sock
    body = json.dumps({"model": MODEL, "messages": HI, "max_tokens": 5, "stream": True})
    for _ in range(50):
        connection.request("POST", CHAT, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert len(parse_events(response.read().decode())) >= 3
        assert connection.sock is first_socket
    connection.close()


def test_concurrent_streams_do_not_mix(server):
    """Forty prompts at once say what each says alone."""
    prompts = [f"{'x' * index}" for index in range(40)]

    def stream(prompt: str) -> str:
        return text_of_chunks(server.chunks(TEXT, prompt=prompt, max_tokens=100))

    alone = [stream(prompt) for prompt in prompts]
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(stream, prompts))

    assert together == alone


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(slow_server, stream):
    """The answer would take ten minutes; the place is free again at once."""
    aborted = slow_server.metric("requests_aborted_total")
    body = {"messages": HI, "max_tokens": 30_000, "stream": stream}
    with slow_server.connect() as connection:
        connection.sendall(raw_request(CHAT, body))
        if stream:
            assert b"200 OK" in connection.recv(1000)
        wait_for(lambda: slow_server.health()["stats"]["num_running"] == 1)

    wait_for(lambda: is_idle(slow_server))
    assert slow_server.metric("requests_aborted_total") == aborted + 1
    assert slow_server.chat(max_tokens=1).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_request(server):
    """It is nobody's error but its own."""
    name = f'http_requests_total{{endpoint="{CHAT}",status="400"}}'
    assert server.chat(n=0).status_code == 400
    before = server.metric(name)
    with server.connect() as connection:
        connection.sendall(raw_request(CHAT, {"messages": HI})[:-5])
        wait_for(lambda: server.http.get("/health/live").status_code == 200)

    wait_for(lambda: server.metric(name) == before + 1)
    assert server.chat(max_tokens=1).status_code == 200


def test_a_client_that_leaves_the_queue(slow_server):
    """Its place is free again."""
    body = {"messages": HI, "max_tokens": 30_000}
    with slow_server.connect() as running:
        running.sendall(raw_request(CHAT, body))
        wait_for(lambda: slow_server.health()["stats"]["num_running"] == 1)
        with slow_server.connect() as waiting:
            waiting.sendall(raw_request(CHAT, body))
            wait_for(lambda: slow_server.health()["stats"]["num_waiting"] == 1)
        wait_for(lambda: slow_server.health()["stats"]["num_waiting"] == 0)
        assert slow_server.health()["stats"]["num_running"] == 1  # the other one is left alone
    wait_for(lambda: is_idle(slow_server))
    assert slow_server.chat(max_tokens=1).status_code == 200


def test_a_full_queue_refuses(slow_server):
    """With a status, a code and a time to come back, streaming or not."""
    body = {"messages": HI, "max_tokens": 30_000, "stream": True}
    rejected = slow_server.metric('requests_rejected_total{reason="engine_overloaded"}')
    with slow_server.connect() as first, slow_server.connect() as second:
        for connection in (first, second):
            connection.sendall(raw_request(CHAT, body))
        wait_for(lambda: slow_server.health()["num_requests_in_flight"] == 2)

        for stream in (False, True):
            response = slow_server.chat(max_tokens=1, stream=stream)
            check_error(response, 429, None, "engine_overloaded")
            assert 1 <= int(response.headers["retry-after"]) <= 120
            assert 1 <= int(response.headers["retry-after-ms"]) <= 120_000
        with strict_client(slow_server) as client, pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model=MODEL, messages=HI)
        assert caught.value.code == "engine_overloaded"
    wait_for(lambda: is_idle(slow_server))
    assert slow_server.metric('requests_rejected_total{reason="engine_overloaded"}') == rejected + 3


def test_first_chunk_comes_before_the_last_token(slow_server):
    """A stream streams: its first text is here while most of it has not been made."""
    started = time.monotonic()
    with slow_server.http.stream(
        "POST", CHAT, json={"model": MODEL, "messages": HI, "max_tokens": 50, "stream": True}
    ) as response:
        pieces = response.iter_text()
        next(pieces)
        first = time.monotonic() - started
        for _ in pieces:
            pass
    assert first < (time.monotonic() - started) / 2
