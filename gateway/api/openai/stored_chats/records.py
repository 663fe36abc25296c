"""Chat completions as records of the store.

A completion is two records of one id: the answer as it was sent with the messages of its request,
and a small one with what lists are searched by. The latter is what makes it exist: it has the
labels, which may change, and its place in lists.
"""

from collections.abc import Callable
from functools import partial

import msgspec
from msgspec import Raw, Struct

from gateway.generation.events import Answer, Choice
from gateway.generation.writer import Head, encode
from gateway.store.database import Database
from gateway.store.record import Record
from gateway.store.store import Store

COMPLETION = "chat.completion"
LABELS = "chat.completion.labels"
KINDS = (COMPLETION, LABELS)

_TOKEN_BYTES = 100
"""About what a token takes of an answer that reports it."""


class Labels(Struct, frozen=True):
    """What lists are searched by."""

    model: str
    metadata: dict[str, str]


class Exchange(Struct, frozen=True):
    """An answer and the messages of its request, as JSON."""

    answer: Raw
    messages: Raw


decode_labels = msgspec.json.Decoder(Labels).decode
decode_exchange = msgspec.json.Decoder(Exchange).decode


class Keeper(Struct, frozen=True):
    """Stores one completion when it is over, with `messages`, its request's as a JSON list."""

    store: Store
    owner: str
    messages: bytes
    metadata: dict[str, str]

    def keep(self, head: Head, answer: bytes) -> None:
        """Stores an answer that was written already."""
        self.store.put_later(self._records(head, answer))

    def keep_unwritten(self, head: Head, answer: Answer, write: Callable[[Answer], bytes]) -> None:
        """Stores what `write` makes of the answer. It is called in the store's own thread: a large
        answer takes long."""
        num_bytes = len(self.messages) + sum(_size_of(choice) for choice in answer.choices)

        def put(database: Database) -> None:
            for record in self._records(head, write(answer)):
                database.put(record)

        self.store.write_later(put, num_bytes, len(KINDS))

    def _records(self, head: Head, answer: bytes) -> list[Record]:
        labels = encode(Labels(head.model, self.metadata))
        new = partial(Record, id=head.id, owner=self.owner, created_at=float(head.created))
        exchange = encode(Exchange(Raw(answer), Raw(self.messages)))
        return [new(kind=COMPLETION, body=exchange), new(kind=LABELS, body=labels)]


def _size_of(choice: Choice) -> int:
    """About the bytes of a choice when it is written."""
    texts = [choice.text, choice.reasoning, *(call.arguments for call in choice.calls)]
    num_shown = sum(1 + len(entry.top) for entry in choice.logprobs if entry is not None)
    num_shown += len(choice.token_ids) + len(choice.prompt_logprobs)
    return sum(map(len, texts)) + num_shown * _TOKEN_BYTES


def completion_of(record: Record, metadata: dict[str, str]) -> bytes:
    """A stored answer with its labels, as JSON."""
    answer = bytes(decode_exchange(record.body).answer)
    return b'%b,"metadata":%b}' % (answer[:-1], encode(metadata))
