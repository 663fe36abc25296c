"""One HTTP request and its response: identity, clock, outcome. Lives in the ASGI scope."""

import hashlib
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast
from urllib.parse import quote

from gateway.observability.answer_record import AnswerRecord

IGNORED_HEADER = b"x-ignored-parameters"
"""The response's header with the parameters that were taken and have no effect."""

DROPPED_HEADER = b"x-dropped-items"
"""The response's header with the number of items that are not in the prompt."""

MAX_NAME = 100
MAX_NAMES = 4000
"""Characters of one name in this header, and of all of them together, before they are encoded."""

_KEY = "lockgate.request_record"
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_CLIENT_ID = re.compile(rb"[ -~]{0,512}")


class RequestRecord:
    """`started` is on the monotonic clock. `status` is 0 until the response begins.

    `deadline`, on the same clock, is when the request's time is over. `limit_headers` reports the
    rest of the client's limits. `loosened` is the value of the header that names keywords of
    schemas that are not enforced; "" if there are none. `num_dropped` items of the conversation
    were too many for the model.

    `model_name` is the served model that the request names, empty until it is known. `key_name`
    stands for the client's key if metrics are kept by key. `answer` is set once the engine works on
    an answer. `attributes` are the trace attributes of the request, if traces are on.

    `earlier_answers` are those of answers that were needed to make that one, such as a summary.

    `body_bytes` is the length of the body once that has arrived.
    `ignored` are the parameters that were taken and have no effect. `param_names` has the client's
    names of parameters that it sent under other names than this server's.

    `client_request_id` is the client's `X-Client-Request-Id`: empty without the header, None if it
    is longer than 512 characters or not ASCII.
    """

    __slots__ = (
        *("answer", "attributes", "body_bytes", "client_request_id", "deadline"),
        *("earlier_answers", "error_code"),
        *("ignored", "key_name", "limit_headers", "loosened", "model_name", "num_dropped"),
        *("param_names", "request_id"),
        *("started", "status"),
    )

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.started = time.monotonic()
        self.request_id = _request_id(headers)
        self.client_request_id = _client_request_id(headers)
        self.status = 0
        self.error_code: str | None = None
        self.deadline = math.inf
        self.limit_headers: Callable[[], list[tuple[bytes, bytes]]] | None = None
        self.loosened = ""
        self.num_dropped = 0
        self.model_name = ""
        self.key_name = ""
        self.body_bytes = 0
        self.ignored: list[str] = []
        self.param_names: Mapping[str, str] = {}
        self.answer: AnswerRecord | None = None
        self.earlier_answers: list[AnswerRecord] = []
        self.attributes: Mapping[str, Any] = {}

    def attach(self, scope: Any) -> None:
        """Makes this the record of an ASGI scope."""
        scope[_KEY] = self

    @staticmethod
    def of(scope: Any) -> "RequestRecord":
        """The record that `attach` put into this scope."""
        return cast(RequestRecord, scope[_KEY])

    def response_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that every response has."""
        elapsed = round((time.monotonic() - self.started) * 1000)
        return [
            (b"x-request-id", self.request_id.encode("ascii")),
            (b"openai-processing-ms", b"%d" % elapsed),
            *(self.limit_headers() if self.limit_headers else ()),
            *self._ignored_header(),
            *([(b"x-loosened-keywords", self.loosened.encode("ascii"))] if self.loosened else []),
            *([(DROPPED_HEADER, b"%d" % self.num_dropped)] if self.num_dropped else []),
        ]

    def _ignored_header(self) -> list[tuple[bytes, bytes]]:
        """Percent-encoded, because a name may be any text. `...` stands for what is too much."""
        shown, room = [], MAX_NAMES
        for name in dict.fromkeys(self.ignored):
            room -= min(len(name), MAX_NAME)
            if room < 0:
                shown.append("...")
                break
            cut = "..." if len(name) > MAX_NAME else ""
            shown.append((quote(name[:MAX_NAME], safe="[]'") or '""') + cut)
        return [(IGNORED_HEADER, ", ".join(shown).encode("ascii"))] if shown else []


def key_fingerprint(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Identifies the request's bearer token without revealing it; empty without a token."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer" and token.strip():
                return hashlib.sha256(token.strip()).hexdigest()[:16]
    return ""


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own id if it is a plain token, so that the client's log and this server's can be
    joined."""
    for name, value in headers:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return value.decode("ascii")
    return f"req_{secrets.token_hex(16)}"


def _client_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The client's id for the log only: the response carries the id of `x-request-id`."""
    for name, value in headers:
        if name == b"x-client-request-id":
            return value.decode("ascii") if _CLIENT_ID.fullmatch(value) else None
    return ""
