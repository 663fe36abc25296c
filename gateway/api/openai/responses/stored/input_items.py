"""The input of a stored response as a list of items."""

import hashlib

import msgspec
from msgspec import Raw

from gateway.api.openai.conversations.items import NewItem, item_of
from gateway.api.openai.conversations.protocol import ItemListQuery
from gateway.api.openai.conversations.records import list_of_items
from gateway.api.openai.responses.protocol import items_of
from runtime.errors import InvalidRequest

_decode = msgspec.json.Decoder(list[Raw]).decode


def page_of_input(response_id: str, body: bytes, query: ItemListQuery) -> bytes:
    """The list as JSON. `body` is the input as it was sent, as a JSON list. Raises InvalidRequest
    for an id that none of the items has."""
    items = _with_ids(response_id, body)
    if query.order == "desc":
        items.reverse()
    start = 0
    if query.after:
        places = [index for index, item in enumerate(items) if item.id == query.after]
        if not places:
            raise InvalidRequest(
                f"`after` is `{query.after[:100]}`, which is no item of this input. Send the"
                " `last_id` of the page before.",
                param="after",
                code="invalid_value",
            )
        start = places[0] + 1
    page = items[start : start + query.limit]
    return list_of_items(page, has_more=start + query.limit < len(items))


def _with_ids(response_id: str, body: bytes) -> list[NewItem]:
    """Each time the same ids."""
    raws = _decode(body)
    return [
        item_of(raw, item, f"input[{index}]", _fresh(response_id, index))
        for index, (raw, item) in enumerate(zip(raws, items_of(raws, "input"), strict=True))
    ]


def _fresh(response_id: str, index: int) -> str:
    return hashlib.blake2b(f"{response_id}/{index}".encode(), digest_size=16).hexdigest()
