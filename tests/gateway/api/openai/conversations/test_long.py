"""Conversations that are long: read in pages, and no further than a prompt may be."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.api.openai.conversations import in_responses
from gateway.api.openai.conversations.in_responses import all_items
from gateway.api.openai.conversations.records import item_deleted, item_id_of, records_of
from gateway.settings.schema import ServerSettings
from gateway.store.database import Database
from gateway.store.sqlite import open_sqlite
from gateway.store.store import Store
from tests.kit.chat.answers import error_of, good
from tests.kit.openai.conversations import URL, USER, begun, items_of, new_messages
from tests.kit.openai.schemas import check_error
from tests.kit.serving import RunningServer, running_server, scripted_settings

RESPONSES = "/v1/responses"


def counted(server: RunningServer, conversation: str) -> int:
    answer = server.post(f"{RESPONSES}/input_tokens", input="hi", conversation=conversation)
    return int(good(answer)["input_tokens"])


def test_pages_are_put_together(server: RunningServer, monkeypatch: pytest.MonkeyPatch):
    made = begun(server, *[{"role": "user", "content": str(index)} for index in range(20)])
    whole = counted(server, made)
    for size in (1, 3, 19, 20, 21):
        monkeypatch.setattr(in_responses, "READ_AT_ONCE", size)
        assert counted(server, made) == whole


def test_more_than_a_prompt_takes_is_refused(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
):
    """By the number of items, and by their size."""
    made = begun(server, USER, USER, USER)
    monkeypatch.setattr(in_responses, "MAX_READ", 3)
    assert counted(server, made) > 0
    good(server.http.post(f"{URL}/{made}/items", json={"items": [USER]}))
    for path in (RESPONSES, f"{RESPONSES}/input_tokens"):
        response = server.post(path, input="hi", conversation=made)
        check_error(response.json())
        error = error_of(response)
        assert (error["param"], error["code"]) == ("conversation", "context_length_exceeded")
    assert len(items_of(server, made)) == 4

    small = scripted_settings(server=ServerSettings(max_body_bytes=1000))
    with running_server(small) as running:
        large = begun(running, *[{"role": "user", "content": "x" * 50}] * 8)
        refused = running.post(RESPONSES, input="hi", conversation=large)
        assert error_of(refused)["param"] == "conversation"


def test_a_full_conversation_takes_no_response(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
):
    made = begun(server, USER)
    monkeypatch.setattr("gateway.api.openai.conversations.records.MAX_ITEMS", 1)
    error = error_of(server.post(RESPONSES, input="hi", conversation=made))
    assert (error["param"], error["code"]) == ("conversation", "conversation_full")


class Shrinking(Store):
    """Once, between two pages, the last item that was read is deleted."""

    deletes: Callable[[Database], Any] | None = None

    async def read(self, question: Any) -> Any:
        answer = await super().read(question)
        if self.deletes is not None:
            change, self.deletes = self.deletes, None
            await self.write(change)
        return answer


def test_an_item_that_goes_between_two_pages_loses_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(in_responses, "READ_AT_ONCE", 4)
    items = new_messages(*map(str, range(10)))

    async def story() -> list[str]:
        store = Shrinking(partial(open_sqlite, tmp_path / "store.db"))
        store.open()
        await store.put(*records_of("c", "ann", 1.0, {}, items))
        store.deletes = item_deleted("c", items[3].id, "ann")
        found = await all_items(store, "c")
        store.close()
        return [item_id_of(record) for record in found]

    assert asyncio.run(story()) == [item.id for item in items if item is not items[3]]
