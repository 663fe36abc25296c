"""Conversations in a database: what is counted, what is full, what changes meanwhile."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.openai.conversations import records
from gateway.api.openai.conversations.items import NewItem
from gateway.api.openai.conversations.protocol import ItemListQuery
from gateway.api.openai.conversations.records import (
    CONVERSATION,
    ITEM,
    added,
    concluded,
    deleted,
    item_deleted,
    listed,
    page_behind,
    records_of,
    state_of,
)
from gateway.errors import ConversationNotFound
from gateway.store.database import Database
from gateway.store.record import Record
from gateway.store.sqlite import open_sqlite
from runtime.errors import InvalidRequest
from tests.kit.openai.conversations import new_messages


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_sqlite(tmp_path / "store.db")
    yield made
    made.close()


def begin(database: Database, conversation_id: str, items: Sequence[NewItem] = ()) -> None:
    for record in records_of(conversation_id, "ann", 1.0, {}, items):
        database.put(record)


def found(database: Database, conversation_id: str) -> list[Record]:
    page = page_behind(database, conversation_id, "", 1000)
    assert page is not None
    return list(page.records)


def texts(database: Database, conversation_id: str) -> list[str]:
    bodies = [json.loads(record.body) for record in found(database, conversation_id)]
    return [body["content"][0]["text"] for body in bodies]


def check_counts(database: Database, conversation_id: str) -> None:
    record = database.get(CONVERSATION, conversation_id, "ann")
    assert record is not None
    bodies = [each.body for each in found(database, conversation_id)]
    state = state_of(record)
    assert (state.num_items, state.num_bytes) == (len(bodies), sum(map(len, bodies)))


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.text(max_size=9), max_size=4)),
        st.tuples(st.just("conclude"), st.lists(st.text(max_size=9), max_size=4)),
        st.tuples(st.just("delete"), st.integers(0, 20)),
    ),
    max_size=20,
)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_STEPS)
def test_items_are_counted(database: Database, steps: list[tuple[str, Any]]):
    """In their order, each once, whatever is done to them; another conversation sees nothing."""
    deleted("c", None)(database)
    deleted("d", None)(database)
    begin(database, "c", new_messages("first"))
    begin(database, "d", new_messages("other"))
    expected = ["first"]
    for kind, value in steps:
        if kind == "add":
            assert added("c", "ann", new_messages(*value), 2.0, "items")(database) is None
            expected += value
        elif kind == "conclude":
            concluded("c", (), new_messages(*value), 2.0)(database)
            expected += value
        elif value < len(expected):
            record = found(database, "c")[value]
            item_id = json.loads(record.body)["id"]
            assert isinstance(item_deleted("c", item_id, "ann")(database), Record)
            del expected[value]
        assert texts(database, "c") == expected
        check_counts(database, "c")
    assert texts(database, "d") == ["other"]


def test_what_is_full_takes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "MAX_ITEMS", 3)
    begin(database, "c", new_messages("1", "2"))
    refused = added("c", "ann", new_messages("3", "4"), 2.0, "items")(database)
    assert isinstance(refused, InvalidRequest)
    assert (refused.param, refused.code) == ("items", "conversation_full")
    assert texts(database, "c") == ["1", "2"]
    assert added("c", "ann", new_messages("3"), 2.0, "items")(database) is None
    concluded("c", (), new_messages("the", "answer"), 3.0)(database)
    assert texts(database, "c") == ["1", "2", "3", "the", "answer"], "no answer is lost"

    monkeypatch.setattr(records, "MAX_BYTES", 1000)
    begin(database, "d")
    refused = added("d", "ann", new_messages("x" * 1000), 2.0, "items")(database)
    assert isinstance(refused, InvalidRequest)
    check_counts(database, "d")


def test_an_answer_adds_to_what_is_there_at_its_end(database: Database):
    """A conversation that is gone stays so; an id that was taken meanwhile is another one."""
    response = Record(kind="response", id="resp_1", owner="bob", created_at=1.0, body=b"{}")
    begin(database, "c", new_messages("first", id="mine"))
    concluded("c", [response], new_messages("second", id="mine"), 2.0)(database)
    assert texts(database, "c") == ["first", "second"]
    ids = [json.loads(record.body)["id"] for record in found(database, "c")]
    assert [record.id for record in found(database, "c")] == [f"c/{each}" for each in ids]
    assert {record.owner for record in found(database, "c")} == {"ann"}
    check_counts(database, "c")

    assert deleted("c", "bob")(database) is False
    assert deleted("c", "ann")(database) is True
    database.delete("response", "resp_1", None)
    concluded("c", [response], new_messages("third"), 3.0)(database)
    assert database.get("response", "resp_1", "bob") == response
    assert database.get(CONVERSATION, "c", None) is None
    assert page_behind(database, "c", "", 10) == page_behind(database, "never", "", 10)
    assert database.get(ITEM, "c/mine", None) is None
    with pytest.raises(ConversationNotFound):
        listed("c", "ann", ItemListQuery())(database)


def test_large_items_make_short_pages(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records, "PAGE_BYTES", 2500)
    begin(database, "c", new_messages(*[str(index) * 1000 for index in range(6)], "y" * 9000))
    seen: list[int] = []
    ids: list[str] = []
    has_more, after = True, None
    while has_more:
        page = json.loads(listed("c", "ann", ItemListQuery(after=after, order="asc"))(database))
        seen.append(len(page["data"]))
        ids += [item["id"] for item in page["data"]]
        has_more, after = page["has_more"], page["last_id"]
    assert seen == [3, 3, 1]
    assert [f"c/{each}" for each in ids] == [record.id for record in found(database, "c")]


def test_a_page_behind_an_item_that_is_gone_is_none(database: Database):
    begin(database, "c", new_messages("first", id="mine"))
    assert page_behind(database, "c", "mine", 10) is not None
    item_deleted("c", "mine", None)(database)
    assert page_behind(database, "c", "mine", 10) is None
