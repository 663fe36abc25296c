"""Responses that are made while no client waits for them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from gateway.api.openai.responses.background.background import MAX_RUNS
from gateway.settings.schema import AuthSettings, StoreSettings
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import error_of, good
from tests.kit.openai.responses import URL, parse
from tests.kit.openai.schemas import check_error, check_response
from tests.kit.serving import MODEL, RunningServer, running_server, scripted_settings, wait_for

NUM_TOKENS = 60
LONG = 30_000
"""Tokens of an answer that is not complete before it is ended."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """An answer of NUM_TOKENS takes about half a second."""
    store = StoreSettings(path=str(tmp_path_factory.mktemp("slow") / "store.db"))
    with running_server(scripted_settings(store=store, step_ms=8, num_tokens=NUM_TOKENS)) as server:
        yield server


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Its answers are ended by who asked for them."""
    store = StoreSettings(path=str(tmp_path_factory.mktemp("endless") / "store.db"))
    with running_server(scripted_settings(store=store, step_ms=5, num_tokens=LONG)) as server:
        yield server


def begun(server: RunningServer, **body: Any) -> dict[str, Any]:
    answer = good(server.post(URL, **{"input": "hi", "background": True, **body}))
    check_response(answer)
    assert (answer["background"], answer["store"]) == (True, True)
    return answer


def found(server: RunningServer, response_id: str) -> dict[str, Any]:
    answer = good(server.http.get(f"{URL}/{response_id}"))
    check_response(answer)
    return answer


def until(server: RunningServer, response_id: str, *states: str) -> dict[str, Any]:
    """The response once it has one of these states."""
    wait_for(lambda: found(server, response_id)["status"] in states)
    return found(server, response_id)


def events_after(server: RunningServer, response_id: str, number: int | None = None) -> list[Any]:
    params = {"stream": "true"} | ({} if number is None else {"starting_after": str(number)})
    response = server.http.get(f"{URL}/{response_id}", params=params)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    if number is None:
        return parse(response.text)
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data:")]


def text_of(answer: dict[str, Any]) -> str:
    return "".join(part["text"] for item in answer["output"] for part in item["content"])


def test_a_response_is_made_while_nobody_waits(slow: RunningServer) -> None:
    whole = good(slow.post(URL, input="hi", seed=7))
    answer = begun(slow, seed=7)
    assert answer["status"] == "queued"

    seen = until(slow, answer["id"], "in_progress", "completed")
    assert text_of(whole).startswith(text_of(seen))
    end = until(slow, answer["id"], "completed")

    assert text_of(end) == text_of(whole)
    assert end["usage"] == whole["usage"]
    assert end["created_at"] == answer["created_at"]
    changing = {"status", "output", "completed_at"}
    assert [key for key in answer if answer[key] != end[key] and key not in changing] == []


def test_a_stream_is_taken_up_where_it_broke(slow: RunningServer) -> None:
    body = {"model": MODEL, "input": "hi", "background": True, "stream": True}
    with slow.http.stream("POST", URL, json=body) as response:
        lines = response.iter_lines()
        seen = []
        while len(seen) < 8:
            if (line := next(lines)).startswith("data:"):
                seen.append(json.loads(line[6:]))
    response_id = seen[0]["response"]["id"]
    assert [event["type"] for event in seen[:3]] == [
        *("response.created", "response.queued", "response.in_progress"),
    ]

    rest = events_after(slow, response_id, seen[-1]["sequence_number"])
    whole = events_after(slow, response_id)

    assert seen + rest == whole
    assert whole[-1]["response"] == found(slow, response_id)
    assert events_after(slow, response_id, whole[-1]["sequence_number"]) == []
    assert events_after(slow, response_id, len(whole) - 3) == whole[-2:]


def test_many_read_one_stream_at_once(slow: RunningServer) -> None:
    """One from the beginning, others from some event on, while it is made."""
    body = {"model": MODEL, "input": "hi", "background": True, "stream": True}
    with slow.http.stream("POST", URL, json=body) as response:
        first = next(line for line in response.iter_lines() if line.startswith("data:"))
    response_id = json.loads(first[6:])["response"]["id"]
    with ThreadPoolExecutor(6) as pool:
        parts = list(pool.map(lambda n: events_after(slow, response_id, n), range(0, 60, 10)))
    whole = events_after(slow, response_id)
    assert parts == [whole[number + 1 :] for number in range(0, 60, 10)]


def test_who_leaves_does_not_end_it(slow: RunningServer) -> None:
    body = {"model": MODEL, "input": "hi", "background": True, "stream": True}
    with slow.http.stream("POST", URL, json=body) as response:
        first = next(line for line in response.iter_lines() if line.startswith("data:"))
    end = until(slow, json.loads(first[6:])["response"]["id"], "completed")
    assert end["usage"]["output_tokens"] == NUM_TOKENS + 1


def test_a_response_is_cancelled_with_what_there_is(endless: RunningServer) -> None:
    answer = begun(endless, max_output_tokens=LONG)
    wait_for(lambda: len(found(endless, answer["id"])["output"]) > 0)
    cancelled = good(endless.http.post(f"{URL}/{answer['id']}/cancel"))

    assert cancelled["status"] == "cancelled"
    assert text_of(cancelled)
    for _ in range(3):
        assert found(endless, answer["id"]) == cancelled
        assert good(endless.http.post(f"{URL}/{answer['id']}/cancel")) == cancelled
    wait_for(lambda: endless.metric("num_requests_running") == 0)
    after = endless.post(URL, input="go on", previous_response_id=answer["id"], max_output_tokens=1)
    assert good(after)["usage"]["input_tokens"] > len(text_of(cancelled))


def test_a_cancelled_response_is_stored_when_that_is_answered(endless: RunningServer) -> None:
    """Another server with the same store, which has not seen it, shows it so."""
    answer = begun(endless, max_output_tokens=LONG)
    until(endless, answer["id"], "in_progress")
    assert endless.config is not None
    settings = endless.config.app.state.context.settings  # type: ignore[union-attr]
    with running_server(settings) as other:
        assert found(other, answer["id"])["status"] == "queued"
        params = {"stream": "true"}
        stream = other.http.get(f"{URL}/{answer['id']}", params=params).json()["error"]
        assert (stream["code"], stream["param"]) == ("response_elsewhere", "stream")
        cancelled = good(endless.http.post(f"{URL}/{answer['id']}/cancel"))
        assert found(other, answer["id"]) == cancelled


def test_what_drains_takes_a_cancel(endless: RunningServer) -> None:
    answer = begun(endless, max_output_tokens=LONG)
    until(endless, answer["id"], "in_progress")
    drain = endless.config.app.state.context.drain  # type: ignore[union-attr]
    drain.begin(exits=False)
    try:
        assert endless.post(URL, input="hi").status_code == 503
        assert good(endless.http.post(f"{URL}/{answer['id']}/cancel"))["status"] == "cancelled"
    finally:
        assert drain.resume()


def test_who_reads_a_stream_that_is_cancelled_gets_its_end(endless: RunningServer) -> None:
    body = {"model": MODEL, "input": "hi", "background": True, "stream": True}
    with endless.http.stream("POST", URL, json=body | {"max_output_tokens": LONG}) as response:
        lines = response.iter_lines()
        first = next(line for line in lines if line.startswith("data:"))
        response_id = json.loads(first[6:])["response"]["id"]
        endless.http.post(f"{URL}/{response_id}/cancel")
        assert all("response.completed" not in line for line in lines)


def test_a_response_that_is_deleted_ends(endless: RunningServer) -> None:
    answer = begun(endless, max_output_tokens=LONG)
    until(endless, answer["id"], "in_progress")
    assert good(endless.http.delete(f"{URL}/{answer['id']}"))["deleted"] is True
    wait_for(lambda: endless.http.get(f"{URL}/{answer['id']}").status_code == 404)
    wait_for(lambda: endless.metric("num_requests_running") == 0)


def test_one_that_is_not_finished_cannot_be_followed_upon(endless: RunningServer) -> None:
    answer = begun(endless, max_output_tokens=LONG)
    error = error_of(endless.post(URL, input="and?", previous_response_id=answer["id"]))
    assert error["code"] == "previous_response_not_finished"
    endless.http.post(f"{URL}/{answer['id']}/cancel")


def test_what_takes_no_background(slow: RunningServer) -> None:
    error = error_of(slow.post(URL, input="hi", background=True, store=False))
    assert error["param"] == "store"
    plain = good(slow.post(URL, input="hi", max_output_tokens=1))
    cancel = slow.http.post(f"{URL}/{plain['id']}/cancel")
    assert error_of(cancel)["param"] == "response_id"
    for params, param in (
        ({"stream": "true"}, "stream"),
        ({"starting_after": "3"}, "starting_after"),
        ({"stream": "true", "starting_after": "x"}, "starting_after"),
        ({"stream": "true", "starting_after": "-1"}, "starting_after"),
        ({"stream": "2"}, "stream"),
    ):
        response = slow.http.get(f"{URL}/{plain['id']}", params=params)
        check_error(response.json())
        assert error_of(response)["param"] == param
    for method, path in (("GET", "?stream=true"), ("POST", "/cancel")):
        assert slow.http.request(method, f"{URL}/resp_none{path}").status_code == 404
    settings = scripted_settings(store=StoreSettings(enabled=False))
    with running_server(settings) as server:
        assert error_of(server.post(URL, input="hi", background=True))["param"] == "background"


def test_what_the_model_cannot_have_fails_with_the_reason() -> None:
    with running_server(scripted_settings(engine={"max_model_len": 100})) as server:
        answer = begun(server, input="x" * 200)
        end = until(server, answer["id"], "failed")
    assert end["error"]["code"] == "invalid_prompt"
    assert "100" in end["error"]["message"]


def test_so_many_are_made_at_a_time_and_in_their_order(tmp_path: Path) -> None:
    store = StoreSettings(path=str(tmp_path / "store.db"), max_background_running=2)
    settings = scripted_settings(store=store, step_ms=5, num_tokens=LONG)
    with running_server(settings) as server:
        ids = [begun(server, max_output_tokens=LONG)["id"] for _ in range(5)]
        for done in range(4):
            wait_for(lambda: server.metric("num_requests_running") == 2)
            states = [found(server, each)["status"] for each in ids]
            wanted = ["cancelled"] * done + ["in_progress"] * 2
            assert states == (wanted + ["queued"] * 5)[:5]
            server.http.post(f"{URL}/{ids[done]}/cancel")


def test_there_is_room_for_so_many(endless: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_RUNS >= 100
    monkeypatch.setattr("gateway.api.openai.responses.background.background.MAX_RUNS", 2)
    wait_for(lambda: endless.metric("background_responses") == 0)
    ids = [begun(endless, max_output_tokens=LONG)["id"] for _ in range(2)]
    assert endless.metric("background_responses") == 2
    response = endless.post(URL, input="hi", background=True)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "gateway_overloaded"
    assert response.headers["retry-after"]
    for each in ids:
        endless.http.post(f"{URL}/{each}/cancel")


def test_the_death_of_the_engine_is_a_pause() -> None:
    with running_server(scripted_settings(step_ms=8, num_tokens=NUM_TOKENS)) as server:
        whole = good(server.post(URL, input="hi", seed=3))
        answer = begun(server, seed=3)
        wait_for(lambda: len(found(server, answer["id"])["output"]) > 0)
        psutil.Process(server.health()["engine"]["pid"]).kill()
        end = until(server, answer["id"], "completed")
        assert server.health()["progress"]["num_deaths"] == 1
    assert text_of(end) == text_of(whole)


@contextmanager
def served(path: Path, *, is_slow: bool) -> Iterator[RunningServer]:
    """One server after the other on one store."""
    settings = scripted_settings(
        store=StoreSettings(path=str(path / "store.db")),
        step_ms=200 if is_slow else 0,
        num_tokens=NUM_TOKENS,
    )
    with running_server(settings) as server:
        yield server


def test_a_server_takes_up_responses_of_its_own_models_alone(tmp_path: Path) -> None:
    store = StoreSettings(path=str(tmp_path / "store.db"))
    with running_server(scripted_settings(store=store, step_ms=200)) as server:
        answer = begun(server, max_output_tokens=3)
    other = scripted_settings(store=store, model={"served_name": "other"})
    with running_server(other) as server:
        body = {"input": "hi", "background": True, "max_output_tokens": 3}
        made = good(server.http.post(URL, json=body))
        until(server, made["id"], "incomplete")
        assert found(server, answer["id"])["status"] == "queued"
    with running_server(scripted_settings(store=store)) as server:
        until(server, answer["id"], "incomplete")


def test_the_next_server_goes_on(tmp_path: Path) -> None:
    """With what was begun and with what waited; events can be read there, too."""
    with served(tmp_path, is_slow=True) as server:
        ids = [begun(server, max_output_tokens=40)["id"] for _ in range(12)]
        with server.http.stream(
            "POST", URL, json={"model": MODEL, "input": "hi", "background": True, "stream": True}
        ) as response:
            first = next(line for line in response.iter_lines() if line.startswith("data:"))
        ids.append(json.loads(first[6:])["response"]["id"])
        server.http.delete(f"{URL}/{ids[1]}")
        server.http.post(f"{URL}/{ids[2]}/cancel")
        until(server, ids[0], "in_progress")
    with served(tmp_path, is_slow=False) as server:
        for number, response_id in enumerate(ids):
            if number == 1:
                assert server.http.get(f"{URL}/{response_id}").status_code == 404
            elif number == 2:
                assert found(server, response_id)["status"] == "cancelled"
            else:
                end = until(server, response_id, "completed", "incomplete")
                assert end["usage"]["output_tokens"] == (40 if number < 12 else NUM_TOKENS + 1)
        assert events_after(server, ids[-1])[-1]["type"] == "response.completed"


def test_a_key_that_is_gone_makes_no_responses(tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.toml"
    store = StoreSettings(path=str(tmp_path / "store.db"))
    keys = write_keys(keys_file, ann={"requests_per_minute": 1}, root={"role": "admin"})
    auth = AuthSettings(keys_file=str(keys_file))
    with running_server(scripted_settings(auth=auth, store=store, step_ms=200)) as server:
        body = {"model": MODEL, "input": "hi", "background": True}
        one = server.http.post(URL, json=body, headers=bearer(keys["ann"]))
        assert good(one)["status"] == "queued"
        refused = server.http.post(URL, json=body, headers=bearer(keys["ann"]))
        assert refused.status_code == 429, "each is charged once"
    others = write_keys(keys_file, root={"role": "admin"})
    with running_server(scripted_settings(auth=auth, store=store)) as server:
        server.http.headers.update(bearer(others["root"]))
        end = until(server, good(one)["id"], "failed")
    assert "not valid any more" in end["error"]["message"]


def test_a_key_is_charged_for_the_tokens(tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.toml"
    keys = write_keys(keys_file, ann={"requests_per_minute": 1, "tokens_per_minute": 5000})
    settings = scripted_settings(auth=AuthSettings(keys_file=str(keys_file)))
    with running_server(settings) as server:
        server.http.headers.update(bearer(keys["ann"]))
        answer = begun(server, max_output_tokens=20)
        assert until(server, answer["id"], "incomplete")["usage"]["output_tokens"] == 20
        refused = server.post(URL, input="hi")
    assert refused.status_code == 429
    assert int(refused.headers["x-ratelimit-remaining-tokens"]) < 5000


def test_the_official_client_polls_cancels_and_goes_on_reading(slow: RunningServer) -> None:
    with openai.OpenAI(base_url=f"{slow.url}/v1", api_key="none") as client:
        made = client.responses.create(model=MODEL, input="hi", background=True)
        wait_for(lambda: client.responses.retrieve(made.id).status == "completed")
        stream = client.responses.create(model=MODEL, input="hi", background=True, stream=True)
        seen = [next(stream) for _ in range(5)]
        stream.close()
        response_id = getattr(seen[0], "response").id  # noqa: B009 -- one of many types of events
        rest = list(
            client.responses.retrieve(
                response_id, stream=True, starting_after=seen[-1].sequence_number
            )
        )
        numbers = [event.sequence_number for event in [*seen, *rest]]
        assert numbers == list(range(len(numbers)))
        assert rest[-1].type == "response.completed"
        again = client.responses.create(model=MODEL, input="hi", background=True)
        assert client.responses.cancel(again.id).status in ("cancelled", "completed")
