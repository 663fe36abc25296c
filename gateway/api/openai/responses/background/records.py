"""Responses in the background as records of the store.

While a response is not finished there are two records beside those of every response: the request
that makes it, and a claim, which names the server that works on it and ends soon unless that server
renews it. Whoever finds a claim that has ended, or whose holder has, goes on with the response.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.api.openai.responses.answers import Response
from gateway.api.openai.responses.background.holder import is_gone
from gateway.api.openai.responses.stored.records import CLAIM, EVENTS, INPUT, REQUEST, RESPONSE
from gateway.generation.writer import encode
from gateway.store.database import Database
from gateway.store.record import Query, Record

CLAIM_SECONDS = 30.0
PAGE = 500


class Claim(Struct, frozen=True, kw_only=True):
    """`holder` works on the response until `ends`, in seconds since 1970, and may go on if it has
    renewed the claim by then. It is empty if nobody does. `model` is the one that is asked."""

    holder: str
    model: str
    ends: float
    keeps_events: bool
    is_cancelled: bool = False


class Held(Struct, frozen=True):
    """A response that is not finished, and the holder's own."""

    record: Record
    claim: Claim


_decode_claim = msgspec.json.Decoder(Claim).decode
_decode_response = msgspec.json.Decoder(Response).decode


def begun(
    response: Response, owner: str, items: bytes, request: bytes, claim: Claim
) -> list[Record]:
    """The records of a response that waits to be made."""

    def record(kind: str, body: bytes) -> Record:
        return Record(
            kind=kind,
            id=response.id,
            owner=owner,
            created_at=response.created_at,
            parent=response.previous_response_id or "" if kind in (RESPONSE, INPUT) else "",
            body=body,
        )

    return [
        record(RESPONSE, encode(response)),
        record(INPUT, items),
        record(REQUEST, request),
        record(CLAIM, encode(claim)),
    ]


def finished(
    response: Response,
    owner: str,
    events: bytes,
    added: Callable[[Database], None] | None = None,
) -> Callable[[Database], None]:
    """Stores the end of a response, and what is `added` then, unless it was deleted meanwhile."""

    def finish(database: Database) -> None:
        stored = database.get(RESPONSE, response.id, owner)
        if not database.delete(CLAIM, response.id, owner) or stored is None:
            return
        database.delete(REQUEST, response.id, owner)
        database.put(replace(stored, body=encode(response)))
        if events:
            database.put(replace(stored, kind=EVENTS, parent="", body=events))
        if added is not None:
            added(database)

    return finish


def take_up(holder: str, models: Collection[str], room: int) -> Callable[[Database], list[Held]]:
    """Claims up to `room` responses that nobody works on, and that ask for one of these models."""

    def take(database: Database) -> list[Held]:
        now = time.time()
        free = [
            each
            for each in _claims(database)
            if _is_free(each.claim, holder, now) and each.claim.model in models
        ]
        return [_claimed(database, each, holder, now + CLAIM_SECONDS) for each in free[:room]]

    return take


def renew(holder: str, ids: Sequence[str]) -> Callable[[Database], dict[str, Claim]]:
    """Makes the holder's claims last. Returns those that are still there, and its own."""

    def renew_all(database: Database) -> dict[str, Claim]:
        found, ends = dict[str, Claim](), time.time() + CLAIM_SECONDS
        for id in ids:
            record = database.get(CLAIM, id, None)
            if record is None:
                continue
            held = Held(record, _decode_claim(record.body))
            if held.claim.holder == holder:
                found[id] = _claimed(database, held, holder, ends).claim
        return found

    return renew_all


def release(ids: Iterable[str]) -> Callable[[Database], None]:
    """Lets others take these up at once."""

    def release_all(database: Database) -> None:
        for id in ids:
            if (record := database.get(CLAIM, id, None)) is not None:
                free = replace(_decode_claim(record.body), holder="", ends=0.0)
                database.put(replace(record, body=encode(free)))

    return release_all


def ask_to_cancel(id: str, owner: str | None) -> Callable[[Database], bool]:
    """Asks the server that works on this response to cancel it. False if nobody does."""

    def ask(database: Database) -> bool:
        record = database.get(CLAIM, id, owner)
        if record is not None:
            claim = replace(_decode_claim(record.body), is_cancelled=True)
            database.put(replace(record, body=encode(claim)))
        return record is not None

    return ask


def is_of_background(record: Record) -> bool:
    """Whether a record is that of a response which is, or was, made in the background."""
    return _decode_response(record.body).background


def response_of(record: Record) -> Response:
    """The response that a record of one has."""
    return _decode_response(record.body)


def _is_free(claim: Claim, holder: str, now: float) -> bool:
    if claim.holder == holder:
        return False
    return not claim.holder or claim.ends < now or is_gone(claim.holder)


def _claims(database: Database) -> list[Held]:
    query = Query(kind=CLAIM, owner=None, limit=PAGE)
    found: list[Held] = []
    while True:
        page = database.find(query)
        found += [Held(record, _decode_claim(record.body)) for record in page.records]
        if not page.has_more:
            return found
        query = replace(query, after=page.records[-1].id)


def _claimed(database: Database, held: Held, holder: str, ends: float) -> Held:
    claim = replace(held.claim, holder=holder, ends=ends)
    database.put(replace(held.record, body=encode(claim)))
    return Held(held.record, claim)
