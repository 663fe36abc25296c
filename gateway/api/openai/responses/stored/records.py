"""Responses and their input as records of the store."""

from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct

from gateway.api.openai.responses.answers import Response, ResponseStatus
from gateway.api.openai.responses.protocol import NamedConversation
from gateway.errors import PreviousNotFinished, PreviousNotStored
from gateway.generation.writer import encode
from gateway.store.database import Database
from gateway.store.record import Record
from gateway.store.store import Store
from runtime.errors import InvalidRequest

RESPONSE = "response"
INPUT = "response.input"
CLAIM = "response.claim"
REQUEST = "response.request"
EVENTS = "response.events"
PARTS_OF_RESPONSE = (INPUT, CLAIM, REQUEST, EVENTS)
"""Kinds of records that a response may have beside its own. They have its id."""

MAX_TURNS = 1000
"""Responses that may follow one upon the other."""


class _Output(Struct):
    """The part of a stored response that a later one begins with, and the conversation that it
    belongs to."""

    output: list[Raw]
    status: ResponseStatus
    conversation: NamedConversation | None = None


_decode_output = msgspec.json.Decoder(_Output).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode


class Keeper(Struct, frozen=True):
    """Stores one response when it is over, with `items`, its input as a JSON list."""

    store: Store
    owner: str
    items: bytes

    def keep(self, response: Response) -> None:
        """Both are there or neither is."""
        self.store.put_later(self.records(response))

    def records(self, response: Response) -> list[Record]:
        """What is stored: the input, and the response itself."""
        return [
            self._record(INPUT, response, self.items),
            self._record(RESPONSE, response, encode(response)),
        ]

    def _record(self, kind: str, response: Response, body: bytes) -> Record:
        return Record(
            kind=kind,
            id=response.id,
            owner=self.owner,
            created_at=response.created_at,
            parent=response.previous_response_id or "",
            body=body,
        )


def history(response_id: str, reader: str | None) -> Callable[[Database], list[Raw]]:
    """A question to the store: what was said up to the end of this response, as items of an input.
    Raises PreviousNotStored if this response, or one before it, is not there for the reader, and
    PreviousNotFinished; InvalidRequest if what was said before it is in a conversation."""

    def ask(database: Database) -> list[Raw]:
        turns, wanted = list[list[Raw]](), response_id
        while wanted:
            response = database.get(RESPONSE, wanted, reader)
            given = database.get(INPUT, wanted, reader)
            if response is None or given is None or len(turns) == MAX_TURNS:
                raise PreviousNotStored(wanted)
            said = _decode_output(response.body)
            if said.status in ("queued", "in_progress"):
                raise PreviousNotFinished(wanted)
            if said.conversation is not None:
                raise _in_conversation(wanted, said.conversation.id)
            turns.append([*_decode_items(given.body), *said.output])
            wanted = response.parent
        return [item for turn in reversed(turns) for item in turn]

    return ask


def _in_conversation(response_id: str, conversation_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"The response `{response_id}` belongs to the conversation `{conversation_id}`, which has"
        " what was said before: send that as `conversation`, or if it has been deleted, what was"
        " said as `input`.",
        param="previous_response_id",
        code="invalid_value",
    )
