"""The routes of stored chats: official clients, owners, mistakes."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.kit.chat.answers import CHAT, HI, error_of, good
from tests.kit.openai.schemas import check_error
from tests.kit.serving import MODEL, RunningServer

NEVER = f"chatcmpl-{'0' * 32}"


def asked(client: OpenAI, **fields: Any) -> Any:
    messages: Any = HI
    return client.chat.completions.create(
        model=MODEL, messages=messages, store=True, max_tokens=2, **fields
    )


def test_the_official_client_has_every_call(server: RunningServer):
    """Strictly: it takes nothing that its types do not allow."""
    with OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        chats = client.chat.completions
        made = [asked(client, metadata={"call": "official", "n": str(n)}) for n in range(5)]
        mine: Any = {"metadata": {"call": "official"}, "model": MODEL}
        listed = list(chats.list(**mine, limit=2))
        assert [each.id for each in listed] == [each.id for each in made]
        assert listed[0].metadata == {"call": "official", "n": "0"}
        assert [each.id for each in chats.list(**mine, order="desc", limit=3)] == [
            each.id for each in reversed(made)
        ]
        assert chats.retrieve(made[1].id).choices == made[1].choices
        assert chats.update(made[1].id, metadata={"a": "b"}).metadata == {"a": "b"}
        assert chats.retrieve(made[1].id).metadata == {"a": "b"}
        assert made[1].id not in [each.id for each in chats.list(**mine)]
        assert chats.update(made[1].id, metadata=None).metadata == {}
        deleted = chats.delete(made[0].id)
        assert (deleted.id, deleted.deleted) == (made[0].id, True)
        with pytest.raises(openai.NotFoundError):
            chats.retrieve(made[0].id)
        assert [each.id for each in chats.list(**mine)] == [each.id for each in made[2:]]


def test_the_official_client_reads_messages(server: RunningServer):
    """Its type knows the assistant's alone, which it is not strict about."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": str(n)} for n in range(7)]
        made = client.chat.completions.create(
            model=MODEL, messages=messages, store=True, max_tokens=1
        )
        found = client.chat.completions.messages.list
        for size in (1, 2, 7, 100):
            assert [each.content for each in found(made.id, limit=size)] == list("0123456")
            back = found(made.id, limit=size, order="desc")
            assert [each.content for each in back] == list("6543210")


def test_nobody_has_what_belongs_to_another(clients: dict[str, OpenAI]):
    made = {name: asked(client, metadata={"of": name}) for name, client in clients.items()}
    mine, theirs = made["ann"].id, made["bob"].id
    chats = clients["ann"].chat.completions

    def seen(name: str, **query: Any) -> list[str]:
        return [each.id for each in clients[name].chat.completions.list(**query)]

    for act in (
        lambda id: chats.retrieve(id),
        lambda id: chats.update(id, metadata={"of": "ann"}),
        lambda id: chats.messages.list(id),
        lambda id: chats.delete(id),
    ):
        errors = []
        for id in (theirs, NEVER, "x", "%00"):
            with pytest.raises(openai.NotFoundError) as caught:
                act(id)
            body: Any = caught.value.body
            errors.append({**body, "message": body["message"].replace(id, "")})
        assert errors[0] == errors[1]
    assert seen("ann") == [mine]
    for after in (theirs, NEVER, "x\0"):
        with pytest.raises(openai.BadRequestError) as refused:
            seen("ann", after=after)
        assert refused.value.param == "after"
    assert seen("ann", metadata={"of": "bob"}) == []
    assert seen("boss") == [each.id for each in made.values()]
    assert seen("boss", metadata={"of": "bob"}) == [theirs]
    boss = clients["boss"].chat.completions
    assert boss.update(theirs, metadata={"of": "all"}).metadata == {"of": "all"}
    assert [each.id for each in clients["bob"].chat.completions.list()] == [theirs]
    boss.delete(theirs)
    assert seen("bob") == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=²", "limit"),
        ("order=up", "order"),
        ("after=x", "after"),
        (f"after={NEVER}", "after"),
        ("metadata=x", "metadata"),
        ("metadata[a=x", "metadata"),
        ("metadata[a]=x&metadata=x", "metadata"),
        ("metadata=x&metadata[a]=x", "metadata"),
        ("metadata[" + "k" * 65 + "]=x", "metadata"),
        ("metadata[a]=" + "v" * 513, "metadata"),
        ("&".join(f"metadata[{n}]=x" for n in range(17)), "metadata"),
    ],
)
def test_mistakes_in_a_list_are_named(server: RunningServer, query: str, param: str):
    response = server.http.get(f"{CHAT}?{query}")
    assert error_of(response)["param"] == param
    check_error(response.json())


def test_mistakes_in_messages_are_named(server: RunningServer):
    made = good(server.chat(store=True, max_tokens=1))["id"]
    for query in ("limit=0", "order=up", "after=x", f"after={made}-1", f"after={made}-00"):
        error = error_of(server.http.get(f"{CHAT}/{made}/messages?{query}"))
        assert error["param"] == query.partition("=")[0]
    after = good(server.http.get(f"{CHAT}/{made}/messages?after={made}-0"))
    assert (after["data"], after["has_more"]) == ([], False)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "metadata"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata['a']"),
        ({"metadata": {"k" * 65: "x"}}, "metadata"),
        ({"metadata": {"a": "v" * 513}}, "metadata['a']"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ],
)
def test_mistakes_in_labels_are_named(server: RunningServer, body: dict[str, Any], param: str):
    made = good(server.chat(store=True, max_tokens=1, metadata={"a": "b"}))["id"]
    assert error_of(server.http.post(f"{CHAT}/{made}", json=body))["param"] == param
    assert good(server.http.get(f"{CHAT}/{made}"))["metadata"] == {"a": "b"}


def test_fields_beside_the_labels_are_reported(server: RunningServer):
    made = good(server.chat(store=True, max_tokens=1))["id"]
    response = server.http.post(f"{CHAT}/{made}", json={"metadata": {}, "model": "x"})
    assert response.headers["x-ignored-parameters"] == "model"


def test_a_model_is_found_by_its_aliases(server: RunningServer):
    made = server.post(CHAT, model="gpt-4o", messages=HI, max_tokens=1, store=True).json()
    for name in ("gpt-4o", made["model"]):
        found = good(server.http.get(CHAT, params={"model": name, "order": "desc", "limit": 1}))
        assert [each["id"] for each in found["data"]] == [made["id"]]
    assert good(server.http.get(CHAT, params={"model": "gone"}))["data"] == []


def test_actions_of_other_servers_are_no_completions(server: RunningServer):
    error = error_of(server.post(f"{CHAT}/render", messages=HI), 404)
    assert error["code"] == "unknown_url"
    found = good(server.chat(store=True, max_tokens=1))["id"]
    assert server.http.get(f"/chat/completions/{found}").json()["id"] == found
    assert server.http.put(f"{CHAT}/{found}").headers["allow"].count("DELETE") == 1
