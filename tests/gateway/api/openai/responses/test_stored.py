"""Responses that the server remembers: found, followed upon, forgotten, and whose they are."""

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest
from openai.types.responses.response_item_list import ResponseItemList

from gateway.settings.schema import AuthSettings, StoreSettings
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import error_of, good
from tests.kit.guarded import Guarded
from tests.kit.openai.responses import URL, ask, fold, parse
from tests.kit.openai.schemas import check_response
from tests.kit.serving import MODEL, RunningServer, running_server, scripted_settings

NO_SUCH = "resp_00000000000000000000000000000000"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys = write_keys(file, ann={}, bob={}, root={"role": "admin"})
    with running_server(scripted_settings(auth=AuthSettings(keys_file=str(file)))) as server:
        yield Guarded(server, keys)


def test_a_response_is_found_again_as_it_was_answered(server: RunningServer) -> None:
    for body in ({}, {"metadata": {"a": "b"}, "instructions": "Be short."}):
        answer = ask(server, **body)
        found = good(server.http.get(f"{URL}/{answer['id']}"))
        check_response(found)
        assert found == answer


def test_a_streamed_response_is_stored_before_its_last_event_is_read(
    server: RunningServer,
) -> None:
    for _ in range(20):
        events = parse(server.post(URL, input="hi", stream=True, max_output_tokens=3).text)
        end = fold(events)
        assert good(server.http.get(f"{URL}/{end['id']}")) == end
        assert end["status"] == "incomplete"


def test_what_is_not_to_be_stored_is_not_found(server: RunningServer) -> None:
    answer = good(server.post(URL, input="hi", store=False, max_output_tokens=1))
    assert answer["store"] is False
    error = server.http.get(f"{URL}/{answer['id']}").json()["error"]
    assert (error["code"], error["param"]) == ("response_not_found", "response_id")
    settings = scripted_settings(store=StoreSettings(responses=False))
    with running_server(settings) as other:
        for store, status in ((None, 404), (True, 200)):
            answer = good(other.post(URL, input="hi", max_output_tokens=1, store=store))
            assert other.http.get(f"{URL}/{answer['id']}").status_code == status
            assert answer["store"] is (status == 200)


def test_a_response_that_follows_reads_what_was_said(server: RunningServer) -> None:
    """The same prompt as if the client had sent it all."""
    first = good(server.post(URL, input="one", max_output_tokens=9, instructions="Not repeated."))
    second = good(
        server.post(URL, input="two", max_output_tokens=5, previous_response_id=first["id"])
    )
    third = {"input": "three", "previous_response_id": second["id"], "instructions": "Be kind."}
    written = [
        {"role": "user", "content": "one"},
        *first["output"],
        {"role": "user", "content": "two"},
        *second["output"],
        {"role": "user", "content": "three"},
    ]
    whole = {"input": written, "instructions": "Be kind."}

    tokens = [
        good(server.post(f"{URL}/input_tokens", **body))["input_tokens"] for body in (third, whole)
    ]
    answer = good(server.post(URL, **third, max_output_tokens=1))

    assert tokens[0] == tokens[1] == answer["usage"]["input_tokens"]
    assert answer["previous_response_id"] == second["id"]


def test_the_items_of_an_input_are_listed_in_pages(server: RunningServer) -> None:
    items = [{"role": "user", "content": f"number {number}"} for number in range(7)]
    items += [{"id": "msg_own", "role": "user", "content": [{"type": "input_text", "text": "x"}]}]
    made = good(server.post(URL, input=items, max_output_tokens=1))
    url = f"{URL}/{made['id']}/input_items"
    whole = good(server.http.get(url, params={"order": "asc", "limit": "100"}))

    ResponseItemList.model_validate(whole, strict=True)
    texts = [item["content"][0]["text"] for item in whole["data"]]
    assert texts == [*(f"number {number}" for number in range(7)), "x"]
    assert whole["data"][-1]["id"] == "msg_own"
    assert good(server.http.get(url))["data"] == whole["data"][::-1]
    for order, expected in (("asc", whole["data"]), ("desc", whole["data"][::-1])):
        found, after = [], ""
        while True:
            params = {"order": order, "limit": "3"} | ({"after": after} if after else {})
            page = good(server.http.get(url, params=params))
            found += page["data"]
            after = page["last_id"]
            if not page["has_more"]:
                break
        assert found == expected
    text = good(server.post(URL, input="hi", max_output_tokens=1))
    [item] = good(server.http.get(f"{URL}/{text['id']}/input_items"))["data"]
    assert item["content"] == [{"type": "input_text", "text": "hi"}]
    for params, param in (
        ({"after": "x"}, "after"),
        ({"limit": "0"}, "limit"),
        ({"order": "up"}, "order"),
    ):
        assert error_of(server.http.get(url, params=params))["param"] == param
    assert server.http.get(f"{URL}/{NO_SUCH}/input_items").status_code == 404


def test_what_is_wrong_in_an_earlier_response_is_named_by_its_place(server: RunningServer) -> None:
    error = error_of(server.post(URL, input="hi", previous_response_id=NO_SUCH))
    assert (error["code"], error["param"]) == (
        "previous_response_not_found",
        "previous_response_id",
    )


def test_a_response_that_was_deleted_is_gone(server: RunningServer) -> None:
    first = good(server.post(URL, input="one", max_output_tokens=2))
    after = good(server.post(URL, input="two", previous_response_id=first["id"]))
    deleted = good(server.http.delete(f"{URL}/{first['id']}"))

    assert deleted == {"id": first["id"], "object": "response", "deleted": True}
    for method in ("GET", "DELETE"):
        assert server.http.request(method, f"{URL}/{first['id']}").status_code == 404
    for previous in (first["id"], after["id"]):
        error = error_of(server.post(URL, input="three", previous_response_id=previous))
        assert error["code"] == "previous_response_not_found"
    assert good(server.http.get(f"{URL}/{after['id']}"))["id"] == after["id"]


def test_ids_of_others_are_like_unknown_ones(guarded: Guarded) -> None:
    made = guarded.post(URL, "ann", model=MODEL, input="hi", max_output_tokens=1).json()["id"]
    for name, status in (("ann", 200), ("bob", 404), ("root", 200)):
        assert guarded.get(f"{URL}/{made}", name).status_code == status
        body = {"model": MODEL, "input": "hi", "previous_response_id": made}
        expected = 200 if status == 200 else 400
        assert guarded.post(URL, name, **body, max_output_tokens=1).status_code == expected
    unknown, others = (guarded.get(f"{URL}/{each}", "bob").json() for each in (NO_SUCH, made))
    assert str(unknown).replace(NO_SUCH, made) == str(others)
    server = guarded.server
    for name, status in (("bob", 404), ("root", 200), ("ann", 404)):
        answer = server.http.delete(f"{URL}/{made}", headers=bearer(guarded.keys[name]))
        assert answer.status_code == status


def test_a_response_outlives_the_server(tmp_path: Path) -> None:
    settings = scripted_settings(store=StoreSettings(path=str(tmp_path / "a" / "store.db")))
    with running_server(settings) as server:
        answer = ask(server, max_output_tokens=3)
    with running_server(settings) as server:
        assert good(server.http.get(f"{URL}/{answer['id']}")) == answer
        body = {"input": "and?", "previous_response_id": answer["id"], "max_output_tokens": 2}
        assert good(server.post(URL, **body))["usage"]["output_tokens"] == 2


def test_a_response_that_failed_is_stored_as_it_ended() -> None:
    settings = scripted_settings(step_ms=20, engine={"max_restarts": 0})
    with running_server(settings) as server:
        body = {"model": MODEL, "input": "hi", "stream": True, "max_output_tokens": 10_000}
        with server.http.stream("POST", URL, json=body) as response:
            lines = response.iter_lines()
            while "output_text.delta" not in next(lines):
                continue
            psutil.Process(server.health()["engine"]["pid"]).kill()
            [last] = [line for line in lines if '"type":"response.failed"' in line]
        end = json.loads(last.removeprefix("data: "))["response"]
        found = good(server.http.get(f"{URL}/{end['id']}"))
    assert found == end
    assert found["status"] == "failed"
    assert found["error"]["code"] == "server_error"


def test_the_official_client_follows_and_forgets(server: RunningServer) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        first = client.responses.create(model=MODEL, input="one", max_output_tokens=4)
        second = client.responses.create(
            model=MODEL, input="two", previous_response_id=first.id, max_output_tokens=4
        )
        assert client.responses.retrieve(second.id) == second
        assert second.previous_response_id == first.id
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)
