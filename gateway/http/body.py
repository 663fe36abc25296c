"""Request bodies: only JSON, decoded straight into a Struct.

Litestar's `data` parameter is not used: it decodes to plain objects first and converts them
leniently, so that the text "1" would pass for a number.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import ClientException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from msgspec import Struct

from gateway.bounds.body_memory import FREE_BYTES, BodyLease
from gateway.bounds.body_pieces import BodyPieces
from gateway.bounds.bounds import Bounds
from gateway.bounds.work_pool import Work, at_once
from gateway.errors import UnsupportedContentEncoding, UnsupportedMediaType
from gateway.http.decoding import (
    MISTAKES,
    Settled,
    decode_leniently,
    to_invalid_request,
    utf8,
)
from gateway.observability.reports.ignored_parameters import note_ignored, note_unknown
from gateway.observability.request_record import RequestRecord

log = structlog.get_logger(__name__)

_CLIENT_LEFT = "The client left before its request was complete."

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound=Struct)
_CHARSET = re.compile(r"""(?:^|;)\s*charset\s*=\s*["']?([^"';\s]+)""", re.IGNORECASE)

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class JSONBody(Generic[T]):
    """The body of an endpoint's requests: a `kind`, which `decode` makes of JSON. `settle` gets the
    body and the fields that the client sent. It raises InvalidRequest if one that `kind` does not
    declare would change the answer and cannot."""

    def __init__(
        self,
        kind: type[T],
        decode: Callable[[bytes], T],
        settle: Callable[[T, Mapping[str, msgspec.Raw]], Settled[T]],
    ) -> None:
        self._kind = kind
        self._decode = decode
        self._settle = settle

    async def read(self, request: Request[Any, Any, Any]) -> T:
        """The body of this request. Raises InvalidRequest with the path of the mistake."""
        charset = _check_headers(request.scope["headers"])
        pieces = await _received(request)
        if work_for(request) is at_once:
            await _bounds_of(request).turns.wait(pieces.num_bytes)
        return await apart(request, self._decoded, request, pieces, charset)

    def _decoded(self, request: Request[Any, Any, Any], pieces: BodyPieces, charset: str) -> T:
        body = utf8(pieces.take(), charset)
        try:
            _bounds_of(request).body_limits.check(body)
            data = decode_leniently(self._decode, body)
            _log_body(request, body)
            return self._settled(request, data, _decode_fields(body))
        except MISTAKES as error:
            raise to_invalid_request(error, self._kind, body=body) from error

    def _settled(
        self, request: Request[Any, Any, Any], data: T, fields: Mapping[str, msgspec.Raw]
    ) -> T:
        settled = self._settle(data, fields)
        RequestRecord.of(request.scope).param_names = settled.names
        note_unknown(request.scope, settled.unknown)
        note_ignored(request.scope, settled.ignored)
        return settled.data


def work_for(request: Request[Any, Any, Any]) -> Work:
    """How to do what takes as long as the request's body is large: a large one's work is done in a
    thread."""
    if RequestRecord.of(request.scope).body_bytes <= FREE_BYTES:
        return at_once
    return _bounds_of(request).pool.run


def count_in(request: Request[Any, Any, Any], num_bytes: int) -> None:
    """Counts what a request reads from the store as a part of its body: what is done with much of
    it is done apart, and its memory is leased. Raises GatewayOverloaded."""
    request_record = RequestRecord.of(request.scope)
    lease = _bounds_of(request).body_memory.lease_of(request.scope)
    lease.grow_to(request_record.body_bytes + num_bytes)
    request_record.body_bytes += num_bytes


async def apart(
    request: Request[Any, Any, Any],
    function: Callable[P, R],
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """The result of a call, which `work_for` the request does. A large one is given up if the
    client leaves."""
    if (work := work_for(request)) is at_once:
        return function(*args, **kwargs)
    return await while_connected(request, work(function, *args, **kwargs))


async def while_connected(request: Request[Any, Any, Any], work: Coroutine[Any, Any, R]) -> R:
    """The result of work for a request whose body is complete. The work is cancelled if the client
    leaves; then raises ClientException, which nobody sees."""
    working = asyncio.create_task(work)
    watcher = asyncio.create_task(_until_disconnected(request))
    try:
        await asyncio.wait((working, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientException(_CLIENT_LEFT)
        return working.result()
    finally:
        working.cancel()
        watcher.cancel()
        del working  # its error would keep this frame, and all that the frame knows


async def read_optional_json(request: Request[Any, Any, Any], kind: type[T]) -> T:
    """A body that may be left out, as `kind`. Raises InvalidRequest."""
    body = utf8((await _received(request)).take(), "")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except MISTAKES as error:
        raise to_invalid_request(error, kind, body=body) from error


async def _received(request: Request[Any, Any, Any]) -> BodyPieces:
    """The body. Its memory is leased before it is read: raises GatewayOverloaded. Litestar's own
    reader would keep it until the response is complete."""
    limit: int = request.app.state.context.settings.server.max_body_bytes
    lease = _bounds_of(request).body_memory.lease(request.scope)
    _expect(_announced_bytes(request.scope["headers"]), limit, lease)
    body, is_complete = BodyPieces(), False
    while not is_complete:
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientException(_CLIENT_LEFT)
        body.add(message.get("body", b""))
        _expect(body.num_bytes, limit, lease)
        is_complete = not message.get("more_body")
    RequestRecord.of(request.scope).body_bytes = body.num_bytes
    return body


def _expect(num_bytes: int, limit: int, lease: BodyLease) -> None:
    """Leases so much memory. Raises RequestEntityTooLarge if that is more than a body may have."""
    if num_bytes > limit:
        raise RequestEntityTooLarge
    lease.grow_to(num_bytes)


def _announced_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The length that the headers announce; 0 if they do not."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _until_disconnected(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _bounds_of(request: Request[Any, Any, Any]) -> Bounds:
    bounds: Bounds = request.app.state.context.bounds
    return bounds


def _log_body(request: Request[Any, Any, Any], body: bytes) -> None:
    """Logs the body if the settings enable it. A body that was not decoded may not be UTF-8."""
    if request.app.state.context.settings.log.prompts:
        request_record = RequestRecord.of(request.scope)
        text = body.decode(errors="replace")
        log.info("request_body", request_id=request_record.request_id, body=text)


def _check_headers(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Returns the charset of the `Content-Type`, or an empty text."""
    charset = ""
    for name, value in headers:  # `request.headers` copies them all first
        if name == b"content-type":
            charset = _charset_of(value.decode("latin-1"))
        elif name == b"content-encoding":
            _check_content_encoding(value.decode("latin-1"))
    return charset


def _charset_of(content_type: str) -> str:
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(media_type)
    found = _CHARSET.search(parameters)
    return found[1] if found else ""


def _check_content_encoding(encoding: str) -> None:
    """Refuses compressed bodies: a small body could expand to a large one."""
    if encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedContentEncoding(encoding)
