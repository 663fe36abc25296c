"""Request bodies: only JSON, decoded straight into a Struct.

Litestar's `data` parameter is not used: it decodes to plain objects first and converts them
leniently, so that the text "1" would pass for a number.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import ClientException, InternalServerException
from msgspec import Struct

from gateway.errors import UnsupportedContentEncoding, UnsupportedMediaType
from gateway.http.decoding import MISTAKES, Settled, decode_leniently, to_invalid_request
from gateway.observability.ignored_parameters import note_ignored, note_unknown
from gateway.observability.request_record import RequestRecord

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Struct)

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class JSONBody(Generic[T]):
    """The body of an endpoint's requests: a `kind`, which `decode` makes of JSON. `settle` gets the
    body and the fields that `kind` does not declare. It raises InvalidRequest if one of them would
    change the answer and cannot."""

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
        _check_headers(request.scope["headers"])
        try:
            body = await request.body()
        except InternalServerException as error:
            raise ClientException("The client left before its request was complete.") from error
        try:
            data = decode_leniently(self._decode, body)
            unknown = unknown_fields(body, self._kind)
            _log_body(request, body)
            return self._settled(request, data, unknown) if unknown else data
        except MISTAKES as error:
            raise to_invalid_request(error, self._kind, body=body) from error

    def _settled(
        self, request: Request[Any, Any, Any], data: T, unknown: Mapping[str, msgspec.Raw]
    ) -> T:
        settled = self._settle(data, unknown)
        RequestRecord.of(request.scope).param_names = settled.names
        note_unknown(request.scope, settled.unknown)
        note_ignored(request.scope, settled.ignored)
        return settled.data


async def read_optional_json(request: Request[Any, Any, Any], kind: type[T]) -> T:
    """A body that may be left out, as `kind`. Raises InvalidRequest."""
    body = await request.body()
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except MISTAKES as error:
        raise to_invalid_request(error, kind, body=body) from error


def _log_body(request: Request[Any, Any, Any], body: bytes) -> None:
    """Logs the body if the settings enable it. A body that was not decoded may not be UTF-8."""
    if request.app.state.context.settings.log.prompts:
        request_record = RequestRecord.of(request.scope)
        text = body.decode(errors="replace")
        log.info("request_body", request_id=request_record.request_id, body=text)


def _check_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    for name, value in headers:  # `request.headers` copies them all first
        if name == b"content-type":
            _check_content_type(value.decode("latin-1"))
        elif name == b"content-encoding":
            _check_content_encoding(value.decode("latin-1"))


def _check_content_type(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(media_type)


def _check_content_encoding(encoding: str) -> None:
    """Refuses compressed bodies: a small body could expand to a large one."""
    if encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedContentEncoding(encoding)


def unknown_fields(body: bytes, known: type[Struct]) -> dict[str, msgspec.Raw]:
    """The top-level fields of a body that `known` does not declare. The body has been decoded
    before."""
    fields = _decode_fields(body)
    names = fields.keys() - set(known.__struct_fields__)
    return {name: fields[name] for name in names}
