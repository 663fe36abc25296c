"""One request that the server makes to itself."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
from litestar.types import ASGIApp

from gateway.admission.inner import act_for
from gateway.errors import ErrorBody, ErrorResponse

_decode_error = msgspec.json.Decoder(ErrorResponse).decode
_KEY = "lockgate.inner_call"


class InnerCall:
    """A POST to the own application, which passes all that a client's requests pass: the limits of
    its owner, the log, the metrics, the deadline.

    `take` gets the body of a good answer, piece by piece. `status` is 0 until the answer begins, as
    it is if the call was left before; `may_retry` says that a refusal need not last, and
    `retry_after` after how many seconds, 0 if that is not known. `purpose` is for the route that
    gets the call.
    """

    def __init__(
        self, path: str, owner: str, call_id: str, purpose: Any, take: Callable[[bytes], None]
    ) -> None:
        self.purpose = purpose
        self.status = 0
        self.retry_after = 0.0
        self.may_retry = False
        self._path = path
        self._owner = owner
        self._call_id = call_id
        self._take = take
        self._refusal = b""
        self._left = asyncio.Event()

    async def run(self, app: ASGIApp, body: bytes) -> None:
        """Returns when the answer is complete, or the call was left."""
        scope = self._scope(len(body))
        is_read = False

        async def receive() -> Any:
            nonlocal is_read
            if is_read:
                await self._left.wait()
                return {"type": "http.disconnect"}
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        await app(scope, receive, self._receive_answer)

    def leave(self) -> None:
        """Ends the call, as a client does that closes its connection."""
        self._left.set()

    @property
    def error(self) -> ErrorBody:
        """What an answer says that is not a good one."""
        return _decode_error(self._refusal).error

    def _scope(self, num_bytes: int) -> Any:
        headers = [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % num_bytes),
            (b"x-request-id", self._call_id.encode("ascii")),
        ]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode("ascii"),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
            "state": {},
            _KEY: self,
        }
        act_for(scope, self._owner)
        return scope

    async def _receive_answer(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = dict(message["headers"])
            found = headers.get(b"retry-after", b"")
            self.retry_after = float(found) if found.isdigit() else 0.0
            never = headers.get(b"x-should-retry") == b"false"
            self.may_retry = self.status in (429, 503) and not never
        elif self.status == 200:
            self._take(message.get("body", b""))
        else:
            self._refusal += message.get("body", b"")


def purpose_of(scope: Any) -> Any:
    """The `purpose` of the call that this request is; None for a client's request."""
    call = cast(InnerCall | None, scope.get(_KEY))
    return None if call is None else call.purpose
