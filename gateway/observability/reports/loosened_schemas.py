"""Tells what of a request's schemas is not enforced: in a header and in the log."""

from collections.abc import Sequence
from urllib.parse import quote

import structlog

from gateway.observability.request_record import RequestRecord
from runtime.messages.structured_output import LeftOut

log = structlog.get_logger(__name__)

MAX_HEADER = 2000
"""Characters of the header's value."""

_PLAIN = " $[]:/@!()*+=&~"


def report_left_out(left_out: Sequence[LeftOut], request_record: RequestRecord) -> None:
    """Names keywords that are not enforced, each by the parameter that has the schema and by its
    place there. Call it before the response begins."""
    if not left_out:
        return
    request_record.loosened = header_value(left_out)
    log.info(
        "schema_loosened",
        request_id=request_record.request_id,
        keywords=[f"{_place(note)}: {note.reason}" for note in left_out],
    )


def header_value(left_out: Sequence[LeftOut]) -> str:
    """The places, with a comma between them. Characters that no header has are percent-encoded, and
    the last ones of many are only counted."""
    value = ""
    for number, note in enumerate(left_out):
        place = quote(_place(note), safe=_PLAIN)
        if len(value) + len(place) > MAX_HEADER:
            return f"{value}, and {len(left_out) - number} more".removeprefix(", ")
        value += f", {place}" if value else place
    return value


def _place(note: LeftOut) -> str:
    return f"{note.source}: {note.path}" if note.path else note.source
