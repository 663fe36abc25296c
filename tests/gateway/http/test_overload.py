"""Ten times as many clients as there is room for, over real HTTP: refused cheaply, or served."""

import statistics
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.kit.chat.answers import CHAT, HI
from tests.kit.serving import (
    RunningServer,
    parse_events,
    raw_request,
    running_server,
    scripted_settings,
    text_of_chunks,
    wait_for,
)

NUM_CLIENTS = 80
REQUESTS_EACH = 3
SMALL = {"max_num_seqs": 4, "max_num_waiting": 4, "max_model_len": 2048}


def text_of(response: httpx.Response) -> str:
    """Of a stream as of a whole answer."""
    if response.headers["content-type"] == "application/json":
        return str(response.json()["choices"][0]["message"]["content"])
    return text_of_chunks(parse_events(response.text))


def storm(server: RunningServer) -> list[httpx.Response]:
    """What every client got, half of them streaming."""

    def ask(number: int) -> list[httpx.Response]:
        return [server.chat(max_tokens=20, stream=bool(number % 2)) for _ in range(REQUESTS_EACH)]

    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        return [response for batch in pool.map(ask, range(NUM_CLIENTS)) for response in batch]


@pytest.mark.slow  # it measures milliseconds: nothing else may run
def test_a_tenfold_overload_is_refused_at_once_and_nothing_accepted_is_lost():
    with running_server(scripted_settings(engine=SMALL, step_ms=10)) as server:
        expected = server.chat(max_tokens=20).json()["choices"][0]["message"]["content"]
        responses = storm(server)
        wait_for(lambda: server.health()["num_requests_in_flight"] == 0)
        completed = server.metric('request_success_total{finished_reason="length"}')
        rejected = server.metric('requests_rejected_total{reason="engine_overloaded"}')

    served = [response for response in responses if response.status_code == 200]
    refused = [response for response in responses if response.status_code == 429]
    assert len(served) + len(refused) == NUM_CLIENTS * REQUESTS_EACH
    assert len(served) >= 8
    assert len(refused) >= 8
    assert {text_of(response) for response in served} == {expected}
    assert (completed, rejected) == (len(served) + 1, len(refused))
    for response in refused:
        assert response.json()["error"]["code"] == "engine_overloaded"
        assert 1 <= int(response.headers["retry-after"]) <= 120
    milliseconds = sorted(int(response.headers["openai-processing-ms"]) for response in refused)
    assert statistics.median(milliseconds) < 25  # with other tests on the same cores
    assert milliseconds[len(milliseconds) * 95 // 100] < 50


def test_a_full_server_refuses_before_it_reads_the_prompt():
    """A prompt beyond the context would be a 400; a parameter that is wrong still is one."""
    settings = scripted_settings(
        engine={"max_num_seqs": 1, "max_num_waiting": 0, "max_model_len": 2048}, step_ms=20
    )
    too_long = "x" * 3000
    with running_server(settings) as server, server.connect() as first:
        first.sendall(raw_request(CHAT, {"messages": HI, "max_tokens": 2000}))
        wait_for(lambda: server.health()["num_requests_in_flight"] == 1)

        assert server.chat(too_long).status_code == 429
        assert server.post("/v1/completions", prompt=too_long).status_code == 429
        assert server.chat(priority="urgent").status_code == 400
        assert server.chat(n=2).json()["error"]["param"] == "n"
        echo = server.post("/v1/completions", prompt="hi", max_tokens=0, echo=True)
        assert echo.json()["choices"][0]["text"] == "hi"
