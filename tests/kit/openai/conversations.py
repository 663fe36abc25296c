"""Conversations: items that clients send, and what is true of those that they get."""

import json
from typing import Any

from hypothesis import strategies as st
from msgspec import Raw

from gateway.api.openai.conversations.items import NewItem, new_items
from tests.kit.chat.answers import good
from tests.kit.openai.schemas import check_answer
from tests.kit.serving import RunningServer

URL = "/v1/conversations"
USER: dict[str, Any] = {"role": "user", "content": "hi"}
PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "reasoning": "rs_",
}

_texts = st.text(max_size=20)


def _part(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    field = "refusal" if kind == "refusal" else "text"
    return _texts.map(lambda text: {"type": kind, field: text})


_contents = _texts | st.lists(
    st.sampled_from(("input_text", "output_text", "refusal")).flatmap(_part), max_size=3
)
_statuses = st.sampled_from(("completed", "incomplete", "in_progress"))
_calls = st.sampled_from(("call_1", "call_2"))


def _object(optional: dict[str, Any], **needed: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(needed, optional={"status": _statuses, **optional})


items = st.one_of(
    _object(
        {"type": st.just("message"), "phase": st.sampled_from(("commentary", "final_answer"))},
        role=st.sampled_from(("user", "assistant", "system", "developer")),
        content=_contents,
    ),
    _object(
        {"call_id": _calls, "arguments": _texts}, type=st.just("function_call"), name=st.just("f")
    ),
    _object({"call_id": _calls, "output": _contents}, type=st.just("function_call_output")),
    _object(
        {
            "content": st.lists(_part("reasoning_text"), max_size=2),
            "summary": st.lists(_part("summary_text"), max_size=2),
            "encrypted_content": _texts,
        },
        type=st.just("reasoning"),
    ),
)
"""Items as clients may send them, without ids."""


def check_item(item: dict[str, Any]) -> None:
    """That OpenAI could have answered with the item."""
    kind = item["type"]
    assert item["id"].startswith(PREFIXES[kind])
    assert item["status"] in ("completed", "incomplete", "in_progress")
    schemas = {
        "message": "OutputMessage" if item.get("role") == "assistant" else "InputMessage",
        "function_call": "FunctionToolCall",
        "function_call_output": "FunctionToolCallOutputResource",
        "reasoning": "ReasoningItem",
    }
    check_answer(schemas[kind], item)


def begun(server: RunningServer, *given: dict[str, Any], **fields: Any) -> str:
    """The id of a new conversation with these items."""
    body = {"items": list(given), **fields}
    return str(good(server.http.post(URL, json=body))["id"])


def items_of(server: RunningServer, conversation_id: str, **query: Any) -> list[dict[str, Any]]:
    """All items in their order, page by page."""
    found: list[dict[str, Any]] = []
    asked = {"order": "asc", "limit": 100, **query}
    while True:
        page = good(server.http.get(f"{URL}/{conversation_id}/items", params=asked))
        assert page["object"] == "list"
        assert len(page["data"]) <= asked["limit"]
        ends = [page["data"][0]["id"], page["data"][-1]["id"]] if page["data"] else ["", ""]
        assert [page["first_id"], page["last_id"]] == ends
        found += page["data"]
        if not page["has_more"]:
            return found
        asked["after"] = page["last_id"]


def texts_of(found: list[dict[str, Any]]) -> list[str]:
    """What the messages among some items say."""
    return [
        "".join(part.get("text", part.get("refusal", "")) for part in item["content"])
        for item in found
        if item["type"] == "message"
    ]


def new_messages(*texts: str, **fields: Any) -> list[NewItem]:
    """Messages of the user that no conversation has yet."""
    sent = [{"role": "user", "content": text, **fields} for text in texts]
    return new_items([Raw(json.dumps(each).encode()) for each in sent], "items")
