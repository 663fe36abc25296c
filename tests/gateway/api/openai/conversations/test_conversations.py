"""The life of a conversation, as its clients see it."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.settings.schema import StoreSettings
from tests.kit.chat.answers import error_of, good
from tests.kit.openai.conversations import (
    URL,
    USER,
    begun,
    check_item,
    items,
    items_of,
    texts_of,
)
from tests.kit.openai.schemas import check_error
from tests.kit.serving import RunningServer, running_server, scripted_settings


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    """It takes nothing that its types do not allow."""
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        _strict_response_validation=True,
    ) as made:
        yield made


GIVEN: list[Any] = [
    USER,
    {"type": "message", "role": "assistant", "content": "Hello."},
    {"role": "developer", "content": [{"type": "input_text", "text": "Be short."}]},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "id": "rs_own"},
    {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "call_1"},
    {"type": "function_call_output", "call_id": "call_1", "output": "42"},
]


def test_the_official_client_keeps_a_conversation(client: openai.OpenAI):
    made = client.conversations.create(items=GIVEN, metadata={"topic": "a"})
    assert (made.id[:5], made.object, made.metadata) == ("conv_", "conversation", {"topic": "a"})
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "b"})
    assert (changed.metadata, changed.created_at) == ({"topic": "b"}, made.created_at)

    pages = client.conversations.items.list(made.id, order="asc", limit=2)
    found: list[Any] = list(pages)
    assert [each.type for each in found] == [each.get("type", "message") for each in GIVEN]
    assert found[0].content[0].to_dict() == {"type": "input_text", "text": "hi"}
    assert found[1].content[0].text == "Hello."
    assert found[3].id == "rs_own"
    assert list(client.conversations.items.list(made.id)) == found[::-1]

    [added] = client.conversations.items.create(made.id, items=[USER]).data
    assert client.conversations.items.retrieve(added.id, conversation_id=made.id) == added
    assert client.conversations.items.delete(added.id, conversation_id=made.id) == changed
    with pytest.raises(openai.NotFoundError) as gone:
        client.conversations.items.retrieve(added.id, conversation_id=made.id)
    assert gone.value.code == "item_not_found"

    deleted = client.conversations.delete(made.id)
    assert (deleted.id, deleted.deleted) == (made.id, True)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.conversations.retrieve(made.id)
    check_error(unknown.value.response.json())
    assert unknown.value.code == "conversation_not_found"


def test_a_conversation_begins_empty(client: openai.OpenAI):
    made = client.conversations.create()
    assert made.metadata == {}
    page = client.conversations.items.list(made.id)
    assert (page.data, page.has_more) == ([], False)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(items, min_size=1, max_size=20), max_size=4), st.integers(1, 30))
def test_items_stay_in_their_order(
    server: RunningServer, blocks: list[list[dict[str, Any]]], limit: int
):
    """Whatever their form, and however large a page is, from both ends."""
    made = begun(server)
    added: list[dict[str, Any]] = []
    for block in blocks:
        answer = good(server.http.post(f"{URL}/{made}/items", json={"items": block}))
        assert [answer["first_id"], answer["last_id"]] == [
            answer["data"][0]["id"],
            answer["data"][-1]["id"],
        ]
        added += answer["data"]

    sent = [item for block in blocks for item in block]
    found = items_of(server, made, limit=limit)
    assert found == added == items_of(server, made, limit=limit, order="desc")[::-1]
    assert [item["type"] for item in found] == [item.get("type", "message") for item in sent]
    for item, given_item in zip(found, sent, strict=True):
        check_item(item)
        assert item["status"] == given_item.get("status", "completed")
        assert item.get("phase") == given_item.get("phase")
    assert texts_of(found) == [_text(item["content"]) for item in sent if "role" in item]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", part.get("refusal")) for part in content)


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(items, min_size=1, max_size=8))
def test_items_can_be_sent_back_as_they_came(
    server: RunningServer, given_items: list[dict[str, Any]]
):
    """Into another conversation, where they are the same, and into a response, where they say the
    same as before."""
    came = items_of(server, begun(server, *given_items))
    again = items_of(server, begun(server, *came))
    assert again == came
    counted = [
        server.post("/v1/responses/input_tokens", input=sent).json()["input_tokens"]
        for sent in ([*given_items, USER], [*came, USER])
    ]
    assert counted[0] == counted[1]


def test_ids_of_clients_belong_to_one_conversation(server: RunningServer):
    item = {**USER, "id": "mine"}
    first, second = begun(server, item), begun(server, item)
    server.http.delete(f"{URL}/{first}")
    assert [each["id"] for each in items_of(server, second)] == ["mine"]

    error = error_of(server.http.post(f"{URL}/{second}/items", json={"items": [USER, item]}))
    assert error["param"] == "items[1].id"
    assert len(items_of(server, second)) == 1, "all are added or none"


def test_a_server_without_a_memory_says_so():
    with running_server(scripted_settings(store=StoreSettings(enabled=False))) as server:
        begin = error_of(server.http.post(URL, json={}))
        asked = server.http.get(f"{URL}/conv_1")
        answer = server.post("/v1/responses", input="hi", conversation="conv_1")
    assert begin["code"] == "store_off"
    for response, param in ((asked, "conversation_id"), (answer, "conversation")):
        assert response.status_code == 404
        check_error(response.json())
        assert response.json()["error"]["param"] == param
