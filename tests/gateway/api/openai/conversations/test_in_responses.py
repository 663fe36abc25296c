"""Responses that belong to a conversation."""

import threading
from typing import Any

import openai
import pytest

from gateway.settings.schema import ServerSettings, StoreSettings
from tests.kit.chat.answers import error_of, good
from tests.kit.openai.conversations import (
    URL,
    USER,
    begun,
    check_item,
    items_of,
    texts_of,
)
from tests.kit.openai.responses import SENTENCE, parse
from tests.kit.openai.schemas import check_error, check_response
from tests.kit.serving import MODEL, RunningServer, running_server, scripted_settings, wait_for

RESPONSES = "/v1/responses"
NEVER = 20_000
"""Tokens of an answer that is not complete before it is ended."""


def ask(server: RunningServer, conversation: Any, text: Any = "hi", **body: Any) -> dict[str, Any]:
    answer = good(server.post(RESPONSES, input=text, conversation=conversation, **body))
    check_response(answer)
    return answer


def said(answer: dict[str, Any]) -> str:
    return str(answer["output"][0]["content"][0]["text"])


def test_a_conversation_goes_on(server: RunningServer):
    """As if the client had sent everything itself; by both forms of its name, streamed and
    stored or not."""
    made = begun(server, USER)
    history: list[Any] = [USER]
    for turn, fields in enumerate(
        ({}, {"store": False}, {"stream": True}, {"previous_response_id": None})
    ):
        name = {"id": made} if turn % 2 else made
        body = {"input": f"turn {turn}", "seed": turn, "max_output_tokens": 8}
        by_hand = good(
            server.post(
                RESPONSES,
                **{**body, "input": [*history, {"role": "user", "content": body["input"]}]},
            )
        )
        counted = server.post(f"{RESPONSES}/input_tokens", input=body["input"], conversation=name)
        response = server.post(RESPONSES, **body, conversation=name, **fields)
        answer = parse(response.text)[-1]["response"] if fields.get("stream") else good(response)
        check_response(answer)
        assert answer["conversation"] == {"id": made}
        assert answer["usage"]["input_tokens"] == by_hand["usage"]["input_tokens"]
        assert counted.json()["input_tokens"] == answer["usage"]["input_tokens"]
        assert said(answer) == said(by_hand)
        history += [{"role": "user", "content": body["input"]}, *answer["output"]]
    found = items_of(server, made)
    for item in found:
        check_item(item)
    assert [item["role"] for item in found] == ["user", *["user", "assistant"] * 4]
    assert found[2::2] == history[2::2], "outputs are there as they were answered"
    assert texts_of(found)[1::2] == [f"turn {turn}" for turn in range(4)]


def test_responses_without_a_conversation_do_not_speak_of_one(server: RunningServer):
    assert "conversation" not in good(server.post(RESPONSES, input="hi"))


def test_responses_at_the_same_time_are_each_one_block(server: RunningServer):
    """And so are items that clients add meanwhile."""
    made = begun(server)

    def respond(number: int) -> None:
        sent = [{"role": "user", "content": f"{number} {part}"} for part in range(3)]
        ask(server, made, sent, max_output_tokens=4)

    def add(number: int) -> None:
        sent = [{"role": "user", "content": f"{number} {part}"} for part in range(4)]
        good(server.http.post(f"{URL}/{made}/items", json={"items": sent}))

    threads = [
        threading.Thread(target=respond if number % 2 else add, args=(number,))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = texts_of(items_of(server, made))
    assert len(found) == 12 * 4
    numbers = [found[start].split()[0] for start in range(0, len(found), 4)]
    assert sorted(numbers, key=int) == [str(number) for number in range(12)]
    for start, number in zip(range(0, len(found), 4), numbers, strict=True):
        assert found[start : start + 3] == [f"{number} {part}" for part in range(3)]


def test_what_an_error_leaves_of_an_answer_is_added():
    """The time is over while the answer is written: the conversation has what came."""
    config = scripted_settings(
        server=ServerSettings(request_timeout=0.5), text=SENTENCE, step_ms=20
    )
    with running_server(config) as running:
        made = begun(running)
        body = {"input": "hi", "conversation": made, "max_output_tokens": 20_000}
        events = parse(running.post(RESPONSES, **body, stream=True).text)
        found = items_of(running, made)
        stored = good(running.http.get(f"{RESPONSES}/{events[-1]['response']['id']}"))

    assert events[-1]["type"] == "response.failed"
    assert texts_of(found)[0] == "hi"
    assert found[1:] == stored["output"] == events[-1]["response"]["output"]
    assert found[1]["status"] == "incomplete"


def test_a_request_that_is_refused_adds_nothing(server: RunningServer):
    made = begun(server, USER)
    for body in (
        {"input": "x" * 3000},
        {"input": "hi", "temperature": 3},
        {"input": [USER, {"type": "web_search_call"}]},
    ):
        assert server.post(RESPONSES, **body, conversation=made).status_code == 400
    assert len(items_of(server, made)) == 1


@pytest.mark.parametrize("store", [True, False])
def test_a_deleted_conversation_stays_deleted(store: bool):
    """Although an answer in it comes to its end; the response itself is stored."""
    config = scripted_settings(text=SENTENCE, num_tokens=40, step_ms=10)
    with running_server(config) as running:
        made = begun(running, {**USER, "id": "mine"})
        body = {"model": MODEL, "input": "hi", "conversation": made, "stream": True, "store": store}
        with running.http.stream("POST", RESPONSES, json=body) as response:
            lines = response.iter_lines()
            next(lines)
            assert running.http.delete(f"{URL}/{made}").status_code == 200
            text = "\n".join(lines)
        assert "response.completed" in text
        answer_id = text.partition('"id":"')[2].partition('"')[0]
        assert running.http.get(f"{URL}/{made}").status_code == 404
        assert running.http.get(f"{URL}/{made}/items").status_code == 404
        assert running.http.get(f"{URL}/{made}/items/mine").status_code == 404
        kept = running.http.get(f"{RESPONSES}/{answer_id}")
        assert kept.status_code == (200 if store else 404)


def test_conversations_that_cannot_be(server: RunningServer):
    made = begun(server, {**USER, "id": "mine"})
    first = ask(server, made, max_output_tokens=2)
    for body, status, param in (
        ({"conversation": "conv_0"}, 404, "conversation"),
        ({"conversation": ""}, 404, "conversation"),
        ({"conversation": 3}, 400, "conversation"),
        ({"conversation": {}}, 400, "conversation.id"),
        ({"conversation": made, "previous_response_id": first["id"]}, 400, "conversation"),
        ({"previous_response_id": first["id"]}, 400, "previous_response_id"),
        ({"conversation": made, "input": [{**USER, "id": "mine"}]}, 400, "input[0].id"),
    ):
        for path in (RESPONSES, f"{RESPONSES}/input_tokens"):
            response = server.post(path, **{"input": "hi", **body})
            check_error(response.json())
            assert response.status_code == status, response.text
            assert response.json()["error"]["param"] == param
    assert len(items_of(server, made)) == 3


def test_a_mistake_in_the_conversation_is_named_there(server: RunningServer):
    """An item that a later input may not have."""
    made = begun(server, {"role": "user", "content": "x" * 3000})
    error = error_of(server.post(RESPONSES, input="hi", conversation=made))
    assert error["code"] == "context_length_exceeded"


def test_the_official_client_talks_in_a_conversation(server: RunningServer):
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        made = client.conversations.create(items=[{"role": "user", "content": "hi"}])
        whole = client.responses.create(model=MODEL, input="and?", conversation=made.id)
        with client.responses.stream(
            model=MODEL, input="so?", conversation={"id": made.id}
        ) as stream:
            final = stream.get_final_response() if list(stream) else None
        assert final is not None
        for response in (whole, final):
            assert response.conversation is not None
            assert response.conversation.id == made.id
        found: list[Any] = list(client.conversations.items.list(made.id, order="asc"))
        assert [item.role for item in found] == ["user", "user", "assistant", "user", "assistant"]
        assert [found[2].id, found[4].id] == [whole.output[0].id, final.output[0].id]


def test_a_response_in_the_background_is_added_at_its_end():
    """Whether it is complete or was cancelled; of one that was cancelled before it was begun there
    is nothing to add."""
    store = StoreSettings(max_background_running=1)
    config = scripted_settings(store=store, text=SENTENCE, num_tokens=NEVER, step_ms=5)
    with running_server(config) as running:
        made = begun(running, USER)

        def begin(text: str, **body: Any) -> str:
            return str(ask(running, made, text, background=True, **body)["id"])

        def found(response_id: str) -> dict[str, Any]:
            return good(running.http.get(f"{RESPONSES}/{response_id}"))

        short = begin("short", max_output_tokens=3)
        wait_for(lambda: found(short)["status"] == "incomplete")
        running_now, waiting = begin("long"), begin("never begun")
        wait_for(lambda: found(running_now)["output"] != [])
        for each in (waiting, running_now):
            good(running.http.post(f"{RESPONSES}/{each}/cancel"))
        items = items_of(running, made)
        assert found(waiting)["output"] == []
        assert items[2:3] == found(short)["output"]
        assert items[4:] == found(running_now)["output"] != []
        assert [texts_of(items)[index] for index in (0, 1, 3)] == ["hi", "short", "long"]
