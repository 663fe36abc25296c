"""Errors as HTTP: one table, one envelope, one place that writes them.

The envelope is OpenAI's: `{"error": {"message", "type", "param", "code"}}`, for every status that
is not a success, whether an endpoint, the router or the server itself refused.
"""

import math
import re
from collections.abc import Mapping

import structlog
from msgspec import Struct
from msgspec.structs import force_setattr

from runtime.client.service_rate import MAX_RETRY_AFTER
from runtime.errors import (
    DeadlineExceeded,
    EngineCrashed,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    GpuMemoryPressure,
    InvalidRequest,
    LockgateError,
)

log = structlog.get_logger(__name__)


INTERNAL_ERROR = "internal_error"
"""`code` of an unexpected exception."""

MAX_WORD = 200
"""Length, in characters, at which an error cuts a word: a name or a value of the client's."""

MAX_MESSAGE = 4000
"""The same for a message, which loses its middle."""

_LONG_WORD = re.compile(rf"([^\s`'\"]{{{MAX_WORD}}})[^\s`'\"]+")
_CUT = "…"


class ErrorBody(Struct, frozen=True):
    """What is said of an error. Texts of the client's in it are cut to a bounded length."""

    message: str
    type: str
    param: str | None
    code: str | None

    def __post_init__(self) -> None:
        force_setattr(self, "message", _bounded(self.message))
        if self.param is not None and len(self.param) > MAX_WORD:
            force_setattr(self, "param", self.param[:MAX_WORD] + _CUT)


def _bounded(message: str) -> str:
    if len(message) <= MAX_WORD:
        return message
    message = _LONG_WORD.sub(rf"\1{_CUT}", message)
    if len(message) <= MAX_MESSAGE:
        return message
    return f"{message[: MAX_MESSAGE * 3 // 4]} {_CUT} {message[-MAX_MESSAGE // 4 :]}"


class ErrorResponse(Struct, frozen=True):
    """OpenAI's envelope of an error."""

    error: ErrorBody

    @classmethod
    def of(cls, reply: "ErrorReply") -> "ErrorResponse":
        """The envelope with this error in it."""
        return cls(reply.body)


class UnknownModel(InvalidRequest):
    """No model of this name is served, or none to this key: the two must look alike. `served` are
    the names that the key may use."""

    def __init__(self, name: str, served: list[str], *, is_restricted: bool = False) -> None:
        names = ", ".join(f"`{name}`" for name in served) or "none"
        whose, has = (
            (" or is not for this key", "This key has")
            if is_restricted
            else ("", "This server has")
        )
        if len(name) > MAX_WORD:
            name = name[:MAX_WORD] + _CUT
        super().__init__(
            f"The model `{name}` does not exist{whose}. {has}: {names}.",
            param="model",
            code="model_not_found",
        )


class ModelNotPullable(InvalidRequest):
    """Neither the catalogue nor the hub has a model of this name; `reason` ends a sentence."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The model `{name}` cannot be pulled: {reason}.", param="model", code="model_not_found"
        )


class UnknownAdapter(InvalidRequest):
    """No adapter of this name is loaded."""

    def __init__(self, name: str, loaded: list[str]) -> None:
        names = ", ".join(f"`{each}`" for each in loaded) or "none"
        super().__init__(
            f"There is no adapter `{name}` here. Loaded are: {names}.",
            param="lora_name",
            code="model_not_found",
        )


class UnsupportedMediaType(InvalidRequest):
    """The `Content-Type` of the request is not JSON."""

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"The body has to be JSON, not `{content_type}`."
            " Send the header `Content-Type: application/json`.",
            param=None,
            code="unsupported_media_type",
        )


class UnsupportedContentEncoding(InvalidRequest):
    """The body is compressed."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"The body is said to be encoded as `{encoding}`. Send it as it is, without the header"
            " `Content-Encoding`.",
            param=None,
            code="unsupported_content_encoding",
        )


class NotStored(InvalidRequest):
    """No response that this request may see has this id."""

    def __init__(self, response_id: str, *, is_on: bool = False) -> None:
        reason = (
            "it was not stored, or is not there any more."
            if is_on
            else "this server does not store responses."
        )
        super().__init__(
            f"There is no response `{response_id[:100]}`: {reason} Keep what the server answers,"
            " and send it again in `input`.",
            param="response_id",
            code="response_not_found",
        )


class ChatNotStored(InvalidRequest):
    """No chat completion that this request may see has this id, or none are stored at all."""

    def __init__(self, completion_id: str = "", *, is_on: bool = False) -> None:
        reason = (
            f"There is no chat completion `{completion_id[:100]}`: it was not stored, or is not"
            " there any more. Those are stored whose requests have `store: true`."
            if is_on
            else "This server stores no chat completions: `store.enabled` is off in its settings."
        )
        param = "completion_id" if completion_id else None
        super().__init__(reason, param=param, code="completion_not_found")


class PreviousNotStored(InvalidRequest):
    """The response that a request follows upon, or one before it, is not stored."""

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"There is no response `{response_id[:100]}` to follow upon: it was not stored, or is"
            " not there any more. Send what was said so far in `input`.",
            param="previous_response_id",
            code="previous_response_not_found",
        )


class PreviousNotFinished(InvalidRequest):
    """The response that a request follows upon is still made in the background."""

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"The response `{response_id[:100]}` is not finished yet. Ask for it until it is"
            " `completed`, and then follow upon it.",
            param="previous_response_id",
            code="previous_response_not_finished",
        )


class ConversationNotFound(InvalidRequest):
    """No conversation that this request may see has this id. `param` is where the request names
    it."""

    def __init__(
        self, conversation_id: str, *, is_on: bool = True, param: str = "conversation_id"
    ) -> None:
        reason = (
            "it is not there, or not any more. POST /v1/conversations begins one."
            if is_on
            else "this server stores nothing (store.enabled)."
        )
        super().__init__(
            f"There is no conversation `{conversation_id[:100]}`: {reason}",
            param=param,
            code="conversation_not_found",
        )


class ConversationItemNotFound(InvalidRequest):
    """The conversation has no item with this id."""

    def __init__(self, conversation_id: str, item_id: str) -> None:
        super().__init__(
            f"The conversation `{conversation_id[:100]}` has no item `{item_id[:100]}`.",
            param="item_id",
            code="item_not_found",
        )


def wrong_host(num_hosts: int) -> InvalidRequest:
    """The error for a request whose `Host` cannot be one."""
    message = (
        (f"The request has {num_hosts} headers" if num_hosts else "The request has no header")
        + " `Host`. Send one."
        if num_hosts != 1
        else "The header `Host` is not a name or an address, with a port or without."
    )
    return InvalidRequest(message, param=None, code="invalid_host")


def wrong_target() -> InvalidRequest:
    """The error for a request whose first line names no path."""
    message = (
        "What the first line of the request asks for is neither a path, such as /v1/models, nor a"
        " URL."
    )
    return InvalidRequest(message, param=None, code="invalid_target")


class HTTPVersionNotSupported(LockgateError):
    """The request is in another version of HTTP than 1.0 and 1.1."""

    def __init__(self) -> None:
        super().__init__("This server speaks HTTP/1.1 and HTTP/1.0.")


class InvalidKey(LockgateError):
    """The request has no API key, or an invalid one. The message never contains the key."""


class PermissionDenied(LockgateError):
    """The key, or the web page that sent the request, may not do this."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str = "permission_denied"
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class RateLimited(LockgateError):
    """A request exceeds a limit of its key. `kind` says what is limited: "requests" or "tokens".
    `retry_after` is in seconds; it is None if this request exceeds the limit on its own, so that a
    retry can never succeed."""

    def __init__(self, message: str, *, kind: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class BudgetExhausted(LockgateError):
    """A key has used up what it may use in a day or a month. The message says when it may go
    on."""


class ServerDraining(LockgateError):
    """The server drains: it finishes running requests and accepts no new ones. `retry_after` is in
    seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("The server is draining: it finishes what it has and takes nothing new.")
        self.retry_after = retry_after


class GatewayOverloaded(LockgateError):
    """The gateway has as many large requests in hand as it can hold. `retry_after` is in
    seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreFull(LockgateError):
    """There is no room for what was to be stored: the disk or the quota is full."""


class StoreUnavailable(LockgateError):
    """The database does not answer, or more waits to be stored than the server can hold."""


class CommitUncertain(StoreUnavailable):
    """Whether changes are stored is not known, so that nobody may apply them again."""


class BodyTimeout(LockgateError):
    """The request's body did not arrive in time."""


class RequestTimeout(LockgateError):
    """The answer was not complete at the request's deadline."""


TABLE: tuple[tuple[type[LockgateError], int, str, str | None], ...] = (
    (InvalidKey, 401, "invalid_request_error", "invalid_api_key"),
    (PermissionDenied, 403, "invalid_request_error", None),
    (RateLimited, 429, "rate_limit_error", "rate_limit_exceeded"),
    (BudgetExhausted, 429, "insufficient_quota", "insufficient_quota"),
    (ServerDraining, 503, "server_error", "server_draining"),
    (GatewayOverloaded, 503, "server_error", "gateway_overloaded"),
    (StoreFull, 507, "server_error", "store_full"),
    (StoreUnavailable, 503, "server_error", "store_unavailable"),
    (BodyTimeout, 408, "invalid_request_error", "body_timeout"),
    (RequestTimeout, 504, "server_error", "request_timeout"),
    (HTTPVersionNotSupported, 505, "invalid_request_error", "http_version_not_supported"),
    (UnknownModel, 404, "invalid_request_error", None),
    (ModelNotPullable, 404, "invalid_request_error", None),
    (UnknownAdapter, 404, "invalid_request_error", None),
    (NotStored, 404, "invalid_request_error", None),
    (ChatNotStored, 404, "invalid_request_error", None),
    (ConversationNotFound, 404, "invalid_request_error", None),
    (ConversationItemNotFound, 404, "invalid_request_error", None),
    (UnsupportedMediaType, 415, "invalid_request_error", None),
    (UnsupportedContentEncoding, 415, "invalid_request_error", None),
    (InvalidRequest, 400, "invalid_request_error", None),
    (EngineOverloaded, 429, "rate_limit_error", "engine_overloaded"),
    (EngineUnavailable, 503, "server_error", "engine_unavailable"),
    (GpuMemoryPressure, 503, "server_error", "gpu_memory_pressure"),
    (DeadlineExceeded, 503, "server_error", "deadline_exceeded"),
    (EngineCrashed, 500, "server_error", "engine_crashed"),
    (EngineError, 500, "server_error", "engine_error"),
)
"""The class of an error with its HTTP status, `type` and `code`; None means that the error carries
its own `code`. The first class that fits an error decides. A `RateLimited` has its `kind` as
`type`."""

NEVER_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients retry on their own after 408, 429 and 5xx; this header forbids it."""

_OWN_HEADERS: Mapping[type[LockgateError], Mapping[str, str]] = {
    InvalidKey: {"www-authenticate": "Bearer"},
    BudgetExhausted: NEVER_RETRY,
    BodyTimeout: {"connection": "close", **NEVER_RETRY},  # the client may still send its body
    RequestTimeout: NEVER_RETRY,
    HTTPVersionNotSupported: {"connection": "close", **NEVER_RETRY},
}


class ErrorReply(Struct, frozen=True):
    """An error as an HTTP response."""

    status: int
    body: ErrorBody
    headers: dict[str, str] = {}


def to_reply(error: Exception, request_id: str) -> ErrorReply:
    """The response for an error. Of an unexpected exception it contains nothing but the request's
    id."""
    for kind, status, type_, code in TABLE:
        if isinstance(error, kind):
            return _reply(error, status, type_, code)
    return ErrorReply(
        500,
        ErrorBody(
            f"The server failed to process the request. Its log has more under {request_id}.",
            "server_error",
            None,
            INTERNAL_ERROR,
        ),
    )


def _reply(error: LockgateError, status: int, type_: str, code: str | None) -> ErrorReply:
    match error:
        case InvalidRequest(param=param, code=own_code):
            return ErrorReply(status, ErrorBody(str(error), type_, param, code or own_code))
        case (
            EngineOverloaded(retry_after=seconds)
            | ServerDraining(retry_after=seconds)
            | GatewayOverloaded(retry_after=seconds)
            | EngineUnavailable(retry_after=seconds)
            | GpuMemoryPressure(retry_after=seconds)
            | DeadlineExceeded(retry_after=seconds)
        ):
            body = ErrorBody(str(error), type_, None, code)
            return ErrorReply(status, body, retry_headers(seconds))
        case EngineCrashed():  # OpenAI's clients retry a 500 on their own
            no_retry = {"x-should-retry": "false"}
            return ErrorReply(status, ErrorBody(str(error), type_, None, code), no_retry)
        case PermissionDenied(param=param, code=own_code):
            return ErrorReply(status, ErrorBody(str(error), type_, param, own_code))
        case RateLimited(kind=kind, retry_after=wait):
            headers = NEVER_RETRY if wait is None else retry_headers(wait)
            return ErrorReply(status, ErrorBody(str(error), kind, None, code), headers)
        case (
            InvalidKey()
            | BudgetExhausted()
            | BodyTimeout()
            | RequestTimeout()
            | HTTPVersionNotSupported()
        ):
            body = ErrorBody(str(error), type_, None, code)
            return ErrorReply(status, body, dict(_OWN_HEADERS[type(error)]))
        case _:
            return ErrorReply(status, ErrorBody(str(error), type_, None, code))


def retry_headers(seconds: float) -> dict[str, str]:
    """Headers with the time until a retry, in seconds and in milliseconds. The time is at most
    `MAX_RETRY_AFTER`: OpenAI's clients do not retry at all after a longer one."""
    seconds = min(max(seconds, 0.001), MAX_RETRY_AFTER)
    return {
        "retry-after": str(math.ceil(seconds)),
        "retry-after-ms": str(math.ceil(seconds * 1000)),
    }
