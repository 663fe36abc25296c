"""The conversation that a response belongs to."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from msgspec import Raw, Struct

from gateway.admission.owner import reader_of
from gateway.api.openai.conversations.items import NewItem, known_id, new_items, output_items
from gateway.api.openai.conversations.memory import store_of
from gateway.api.openai.conversations.records import (
    CONVERSATION,
    State,
    concluded,
    item_id_of,
    no_room,
    page_behind,
    state_of,
)
from gateway.api.openai.responses.answers import Response
from gateway.api.openai.responses.protocol import ResponseRequest, conversation_id_of, raw_items
from gateway.errors import ConversationNotFound
from gateway.http.body import apart, count_in
from gateway.http.context import AnyRequest, Context
from gateway.store.database import Database
from gateway.store.record import Record
from gateway.store.store import Store
from runtime.errors import ContextLengthExceeded, InvalidRequest

PARAM = "conversation"

MAX_READ = 10_000
"""Items of a conversation that a prompt may have."""

READ_AT_ONCE = 500
"""Items that one question to the store reads, so that others have their turn."""


class OpenConversation(Struct, frozen=True):
    """A conversation while a response in it is made. `earlier` are the items that it had before,
    and `items` those of the response's own input."""

    id: str
    store: Store
    earlier: Sequence[Raw]
    items: Sequence[NewItem]

    def conclude(self, response: Response, records: Sequence[Record] = ()) -> None:
        """Has `records`, those of the response, stored soon, together with what was said. A
        conversation that has been deleted meanwhile is left alone."""
        said = self._said(response)
        num_bytes = sum(len(record.body) for record in records)
        num_bytes += sum(len(item.body) for item in said)
        if num_bytes:
            change = concluded(self.id, records, said, time.time())
            self.store.write_later(change, num_bytes, len(records) + len(said))

    def addition(self, response: Response) -> Callable[[Database], None]:
        """The change that adds what was said."""
        return concluded(self.id, (), self._said(response), time.time())

    def _said(self, response: Response) -> Sequence[NewItem]:
        """Nothing was said if the response ended before anything of it came."""
        if not response.output and response.status in ("failed", "cancelled"):
            return ()
        return [*self.items, *output_items(response.output)]


async def open_conversation(
    context: Context, request: AnyRequest, data: ResponseRequest
) -> OpenConversation | None:
    """The conversation that a request names; None if it names none. Raises ConversationNotFound,
    and InvalidRequest if the conversation is too long for a prompt, or has no room for the
    input."""
    conversation_id = conversation_id_of(data)
    if conversation_id is None:
        return None
    if data.previous_response_id is not None:
        raise InvalidRequest(
            f"`{PARAM}` and `previous_response_id` both say what was said before: send one of"
            " them.",
            param=PARAM,
            code="invalid_value",
        )
    store = store_of(context, conversation_id, PARAM)
    record = await store.get(CONVERSATION, conversation_id, reader_of(request.scope))
    if record is None:
        raise ConversationNotFound(conversation_id, param=PARAM)
    items = await apart(request, new_items, raw_items(data), "input")
    state = state_of(record)
    _check_size(context, conversation_id, state, items)
    count_in(request, state.num_bytes)
    earlier = await all_items(store, conversation_id)
    raws = await apart(request, _followed, earlier, items)
    return OpenConversation(conversation_id, store, raws, items)


def _followed(earlier: Sequence[Record], items: Sequence[NewItem]) -> list[Raw]:
    """What was said before these items. Raises InvalidRequest for one that was said already."""
    known = {item_id_of(record) for record in earlier}
    for index, item in enumerate(items):
        if item.id in known:
            raise known_id(item.id, f"input[{index}]")
    return [Raw(record.body) for record in earlier]


def _check_size(
    context: Context, conversation_id: str, state: State, items: Sequence[NewItem]
) -> None:
    limit = context.settings.server.max_body_bytes
    if state.num_bytes > limit or state.num_items > MAX_READ:
        raise ContextLengthExceeded(
            f"The conversation `{conversation_id}` is too long for a prompt: it has"
            f" {state.num_items} items of {state.num_bytes} bytes, and a prompt takes {MAX_READ} of"
            f" {limit} (server.max_body_bytes). Delete items, or begin a new one.",
            param=PARAM,
        )
    if (full := no_room(conversation_id, state, items, PARAM)) is not None:
        raise full


async def all_items(store: Store, conversation_id: str) -> list[Record]:
    """The items of a conversation, page by page."""
    found: list[Record] = []
    has_more = True
    while has_more:
        after = item_id_of(found[-1]) if found else ""
        page = await store.read(
            partial(page_behind, conversation_id=conversation_id, after=after, limit=READ_AT_ONCE)
        )
        if page is None:  # the last item has been deleted meanwhile: where it stood is not known
            found, has_more = [], True
            continue
        found += page.records
        has_more = page.has_more
    return found
