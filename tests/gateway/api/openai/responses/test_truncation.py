"""Conversations that are longer than the model's context, on a real server."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.kit.engines import needs_llama_library
from tests.kit.openai.responses import URL
from tests.kit.openai.schemas import check_answer
from tests.kit.serving import (
    MODEL,
    RunningServer,
    running_server,
    scripted_settings,
    server_of,
    tiny_settings,
)

LENGTH = 1000

server = server_of(scripted_settings(engine={"max_model_len": LENGTH}, text="abc ", num_tokens=20))
shortening = server_of(
    scripted_settings(
        engine={"max_model_len": LENGTH}, model={"truncation": "auto"}, text="abc ", num_tokens=20
    )
)


def exchanges(number: int) -> list[dict[str, Any]]:
    """Questions and answers, each of some 60 tokens, and a last question."""
    turns = [
        {"role": role, "content": f"{role} {index} " * 4}
        for index in range(number)
        for role in ("user", "assistant")
    ]
    return [*turns, {"role": "user", "content": "And now?"}]


def test_the_oldest_turns_are_dropped_and_counted(server: RunningServer):
    body = {"input": exchanges(50), "instructions": "Be short.", "max_output_tokens": 100}
    response = server.post(URL, **body, truncation="auto")
    counted = server.post(f"{URL}/input_tokens", **body, truncation="auto")
    answer = response.json()

    check_answer("Response", answer)
    assert answer["truncation"] == "auto"
    num_dropped = int(response.headers["x-dropped-items"])
    assert 80 < num_dropped < 100
    assert counted.headers["x-dropped-items"] == str(num_dropped)
    assert answer["usage"]["input_tokens"] == counted.json()["input_tokens"] <= LENGTH - 100
    kept = {**body, "input": body["input"][num_dropped:]}
    alone = server.post(URL, **kept).json()
    assert alone["truncation"] == "disabled"
    assert alone["usage"]["input_tokens"] == answer["usage"]["input_tokens"]
    assert alone["output"][0]["content"] == answer["output"][0]["content"]


def test_streams_tell_it_in_their_header(server: RunningServer):
    response = server.post(URL, input=exchanges(50), truncation="auto", stream=True)

    assert int(response.headers["x-dropped-items"]) > 80
    assert '"truncation":"auto"' in response.text


def test_what_fits_is_left_alone(server: RunningServer):
    response = server.post(URL, input=exchanges(2), truncation="auto")

    assert "x-dropped-items" not in response.headers


@pytest.mark.parametrize("truncation", [None, "disabled"])
def test_without_it_too_much_is_refused(server: RunningServer, truncation: str | None):
    error = server.post(URL, input=exchanges(50), truncation=truncation).json()["error"]

    assert (error["param"], error["code"]) == ("input", "context_length_exceeded")
    assert f"length is {LENGTH} tokens" in error["message"]


def test_what_cannot_be_dropped_is_refused(server: RunningServer):
    body = {"input": "x" * LENGTH, "truncation": "auto"}
    assert server.post(URL, **body).json()["error"]["code"] == "context_length_exceeded"
    many = [{"role": "system", "content": "x" * LENGTH}, *exchanges(5)]
    body = {"input": many, "truncation": "auto"}
    assert server.post(URL, **body).json()["error"]["code"] == "context_length_exceeded"


def test_a_last_turn_may_take_the_room_of_the_answer(server: RunningServer):
    """As it may without truncation: the answer is shorter then."""
    long = [*exchanges(5), {"role": "user", "content": "x" * (LENGTH - 100)}]
    response = server.post(URL, input=long, truncation="auto", max_output_tokens=400)

    assert response.json()["status"] == "completed"
    assert response.headers["x-dropped-items"] == "11"


def test_other_words_are_refused(server: RunningServer):
    error = server.post(URL, input="hi", truncation="middle").json()["error"]
    assert error["param"] == "truncation"


def test_earlier_responses_are_dropped_too(server: RunningServer):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    previous, dropped = None, list[int]()
    for number in range(20):
        raw = client.responses.with_raw_response.create(
            model=MODEL,
            input=f"question {number} " * 5,
            previous_response_id=previous,
            truncation="auto",
            max_output_tokens=50,
        )
        previous = raw.parse().id
        assert raw.parse().truncation == "auto"
        dropped.append(int(raw.headers.get("x-dropped-items", 0)))
    assert dropped == sorted(dropped)
    assert dropped[0] == 0
    assert 3 <= len(set(dropped)) < 12
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.responses.create(model=MODEL, input="and?", previous_response_id=previous)


def test_a_model_may_shorten_all_conversations(shortening: RunningServer):
    chat = shortening.post("/v1/chat/completions", messages=exchanges(50))
    assert chat.status_code == 200
    assert int(chat.headers["x-dropped-items"]) > 80
    response = shortening.post(URL, input=exchanges(50))
    assert response.json()["truncation"] == "auto"
    refused = shortening.post(URL, input=exchanges(50), truncation="disabled")
    assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_tokens_that_a_request_cuts_itself_are_cut_its_way(shortening: RunningServer):
    chat = shortening.post(
        "/v1/chat/completions", messages=exchanges(50), truncate_prompt_tokens=200
    )
    assert chat.json()["usage"]["prompt_tokens"] == 200
    assert "x-dropped-items" not in chat.headers


def test_the_prompt_cache_has_the_kept_beginning(tiny_model_path: Path):
    """A turn is read from its beginning only where a step more was dropped."""
    needs_llama_library()
    rounds = []
    with running_server(tiny_settings(), model_path=str(tiny_model_path)) as running:
        items: list[dict[str, Any]] = []
        for number in range(24):
            items.append({"role": "user", "content": f"the quick brown fox {number} " * 20})
            body = {"input": items, "truncation": "auto", "max_output_tokens": 8}
            response = running.post(URL, **body, temperature=0)
            usage = response.json()["usage"]
            cached = usage["input_tokens_details"]["cached_tokens"]
            dropped = int(response.headers.get("x-dropped-items", 0))
            rounds.append((dropped, usage["input_tokens"], cached))
            items.append({"role": "assistant", "content": "jumps over the lazy dog"})

    drops = [now[0] for now in rounds]
    assert drops == sorted(drops)
    assert len(set(drops)) >= 3, "there were several steps"
    for before, now in pairwise(rounds):
        if now[0] == before[0]:
            assert now[2] > before[1] / 2, (before, now)
