"""Conversations and items that are refused, and whose they are."""

from pathlib import Path
from typing import Any

import pytest

from gateway.settings.schema import AuthSettings
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import error_of, good
from tests.kit.openai.conversations import URL, USER, begun, items_of
from tests.kit.openai.schemas import check_error
from tests.kit.serving import RunningServer, running_server, scripted_settings

IMAGE = {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}
ITEMS: list[tuple[Any, str]] = [
    ([USER] * 21, "items"),
    ("hi", "items"),
    ([3], "items[0]"),
    ([USER, {"role": "user"}], "items[1].content"),
    ([{**USER, "role": "tool"}], "items[0].role"),
    ([{"type": "item_reference", "id": "x"}], "items[0].type"),
    ([USER, IMAGE], "items[1].content[0]"),
    ([{**USER, "id": "a/b"}], "items[0].id"),
    ([{**USER, "id": "a" * 101}], "items[0].id"),
    ([{**USER, "id": "a"}, {**USER, "id": "a"}], "items[1].id"),
    ([{**USER, "status": "done"}], "items[0].status"),
    (
        [{"type": "function_call", "name": "f", "arguments": f"[{'1,' * 200_000}1]"}],
        "items[0].arguments",
    ),
]
METADATA: list[Any] = [
    {str(index): "" for index in range(17)},
    {"a" * 65: ""},
    {"a": "b" * 513},
    {"a": 3},
    "a",
]


@pytest.mark.parametrize(("sent", "param"), ITEMS, ids=[each[1] for each in ITEMS])
def test_items_that_no_response_could_read_are_not_taken(
    server: RunningServer, sent: Any, param: str
):
    made = begun(server)
    for path in (URL, f"{URL}/{made}/items"):
        response = server.http.post(path, json={"items": sent})
        check_error(response.json())
        assert error_of(response)["param"] == param
    assert items_of(server, made) == []


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata_have_limits(server: RunningServer, metadata: Any):
    made = begun(server, metadata={"a": "b"})
    for path in (URL, f"{URL}/{made}"):
        assert error_of(server.http.post(path, json={"metadata": metadata}))["param"].startswith(
            "metadata"
        )
    assert good(server.http.get(f"{URL}/{made}"))["metadata"] == {"a": "b"}


def test_what_is_missing_is_named(server: RunningServer):
    made = begun(server, metadata={"a": "b"})
    assert error_of(server.http.post(f"{URL}/{made}", json={}))["param"] == "metadata"
    assert error_of(server.http.post(f"{URL}/{made}/items", json={}))["param"] == "items"
    assert error_of(server.http.post(f"{URL}/{made}/items", json={"items": []}))["param"] == "items"
    assert error_of(server.http.post(URL, json={"messages": [USER]}))["param"] == "messages"
    cleared = good(server.http.post(f"{URL}/{made}", json={"metadata": None}))
    assert cleared["metadata"] == {}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("order=up", "order"),
        ("after=msg_unknown", "after"),
        ("after=", "after"),
        ("include=all", "include[0]"),
        ("include[]=reasoning.encrypted_content&include[]=all", "include[1]"),
    ],
)
def test_a_page_that_cannot_be(server: RunningServer, query: str, param: str):
    response = server.http.get(f"{URL}/{begun(server, USER)}/items?{query}")
    check_error(response.json())
    assert error_of(response)["param"] == param


def test_an_item_of_another_conversation_is_no_cursor(server: RunningServer):
    [other] = items_of(server, begun(server, USER))
    response = server.http.get(f"{URL}/{begun(server, USER)}/items?after={other['id']}")
    assert error_of(response)["param"] == "after"


def test_what_a_page_does_not_know_is_reported(server: RunningServer):
    query = "before=x&limit=5&include=message.output_text.logprobs"
    response = server.http.get(f"{URL}/{begun(server, USER)}/items?{query}")
    assert len(good(response)["data"]) == 1
    assert response.headers["x-ignored-parameters"] == "before"


WAYS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("POST", "", {"metadata": {"a": "b"}}),
    ("GET", "/items", None),
    ("POST", "/items", {"items": [USER]}),
    ("GET", "/items/ITEM", None),
    ("DELETE", "/items/ITEM", None),
    ("DELETE", "", None),
]


def test_others_find_nothing_and_admins_everything(tmp_path: Path):
    file = tmp_path / "keys.toml"
    keys = write_keys(file, ann={}, bob={}, root={"role": "admin"})
    with running_server(scripted_settings(auth=AuthSettings(keys_file=str(file)))) as server:
        ann, bob, root = (bearer(keys[name]) for name in ("ann", "bob", "root"))
        made = good(server.http.post(URL, json={"items": [USER]}, headers=ann))["id"]
        [item] = good(server.http.get(f"{URL}/{made}/items", headers=ann))["data"]
        for method, path, body in WAYS:
            path = path.replace("ITEM", item["id"])
            asked: dict[str, Any] = {"headers": bob, **({"json": body} if body else {})}
            of_ann = server.http.request(method, f"{URL}/{made}{path}", **asked)
            unknown = server.http.request(method, f"{URL}/conv_0{path}", **asked)
            assert of_ann.status_code == unknown.status_code == 404
            assert of_ann.text.replace(made, "conv_0") == unknown.text
        asked_by_bob = server.http.post(
            "/v1/responses", json={"input": "hi", "conversation": made}, headers=bob
        )
        assert asked_by_bob.status_code == 404

        added = server.http.post(f"{URL}/{made}/items", json={"items": [USER]}, headers=root)
        answer = server.http.post(
            "/v1/responses",
            json={"input": "hi", "conversation": made, "max_output_tokens": 2},
            headers=root,
        )
        assert (added.status_code, answer.status_code) == (200, 200)
        of_ann = good(server.http.get(f"{URL}/{made}/items", headers=ann))
        assert len(of_ann["data"]) == 4, "what an admin adds is the owner's"
        for method, path, body in WAYS:
            path = path.replace("ITEM", item["id"])
            by_root = server.http.request(
                method, f"{URL}/{made}{path}", headers=root, **({"json": body} if body else {})
            )
            assert by_root.status_code == 200
