"""POST /admin/models/NAME/pull: downloads a model, and tells how far it is."""

import asyncio
from typing import Any, Literal

from litestar.types import Receive, Scope, Send
from msgspec import Struct

from gateway.errors import ModelNotPullable
from gateway.generation.writer import DONE, broken_stream, encode
from gateway.http.body import read_optional_json
from gateway.http.context import AnyRequest, Context, base_name
from gateway.http.json_response import JSONBytes
from gateway.http.loading.stream import STREAM_HEADERS
from gateway.http.streaming import last_words
from gateway.models.pulls.lookup import RETRY_SECONDS, find_by_name
from gateway.models.pulls.pull import Pull
from gateway.models.pulls.pulls import Pulls
from gateway.models.pulls.wanted import WantedModel, wanted_model
from gateway.observability.request_record import RequestRecord
from runtime.errors import EngineUnavailable, SetupError

TELL_SECONDS = 0.5
"""How often a stream tells how far the download is."""


class PullRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Without `stream` the answer comes when the model is there. With `any_size` also a model that
    is too large to run here is downloaded."""

    stream: bool = True
    any_size: bool = False


class PullEvent(Struct, frozen=True, kw_only=True):
    """How far a download is. `activity` says what goes on; sizes are in bytes, and `total` is 0
    while it is not known."""

    model: str
    status: Literal["pulling", "success"]
    activity: str = ""
    completed: int = 0
    total: int = 0


class PullAnswer:
    """The response, an ASGI application. The download ends when the last one who waits for it
    leaves; what has arrived stays."""

    def __init__(self, pulls: Pulls, name: str, wanted: WantedModel, *, is_streamed: bool) -> None:
        self._pulls = pulls
        self._name = name
        self._wanted = wanted
        self._is_streamed = is_streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(_until_left(receive))
        try:
            with self._pulls.joined(self._wanted) as pull:
                if self._is_streamed:
                    await self._stream(pull, leaving, RequestRecord.of(scope), send)
                elif await _is_done(pull, leaving, None):
                    await JSONBytes(encode(self._result(pull)))(scope, receive, send)
        finally:
            leaving.cancel()

    async def _stream(
        self, pull: Pull, leaving: "asyncio.Task[None]", request_record: RequestRecord, send: Send
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        while not await _is_done(pull, leaving, TELL_SECONDS):
            if leaving.done():
                return
            await _send(send, _frame(self._event(pull)), is_last=False)
        try:
            last = _frame(self._result(pull)) + DONE
        except Exception as error:
            last = broken_stream(last_words(error, request_record))
        await _send(send, last, is_last=True)

    def _event(self, pull: Pull) -> PullEvent:
        now = pull.progress
        return PullEvent(
            model=self._name,
            status="pulling",
            activity=now.activity,
            completed=now.completed,
            total=now.total,
        )

    def _result(self, pull: Pull) -> PullEvent:
        """The last event. Raises EngineUnavailable for a download that failed."""
        try:
            pull.outcome.result()
        except SetupError as error:
            raise EngineUnavailable(
                f"The model `{self._name}` could not be pulled: {error}.",
                retry_after=RETRY_SECONDS,
            ) from error
        size = pull.progress.total
        return PullEvent(model=self._name, status="success", completed=size, total=size)


async def pull_answer(request: AnyRequest, context: Context, name: str) -> PullAnswer:
    """The response to a request that a model be pulled: one of the settings, or any of the
    catalogue or of the hub. Raises ModelNotPullable for a name that is none."""
    data = await read_optional_json(request, PullRequest)
    wanted = await asyncio.to_thread(_wanted, context, name, data.any_size)
    await context.lookups.check(wanted)
    return PullAnswer(context.manager.pulls, name, wanted, is_streamed=data.stream)


def _wanted(context: Context, name: str, any_size: bool) -> WantedModel:
    settings = context.settings
    model, engine = settings.model, settings.engine
    wanted_name = name
    if name in context.models.names:
        spec = context.manager.spec(base_name(context, name))
        wanted_name, model, engine = spec.model.name_or_path, spec.model, spec.engine
    wanted = wanted_model(wanted_name, model, engine, any_size=any_size)
    if find_by_name(wanted.store(), wanted_name) is None:
        raise ModelNotPullable(
            name, "give a name of the catalogue or of the hub, such as USER/REPO:Q4_K_M"
        )
    return wanted


async def _is_done(pull: Pull, leaving: "asyncio.Task[None]", seconds: float | None) -> bool:
    """Whether the download has ended. Waits so long for that, or until the client leaves."""
    ends: set[asyncio.Future[Any]] = {pull.outcome, leaving}
    await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    return pull.outcome.done()


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _frame(event: PullEvent) -> bytes:
    return b"data: " + encode(event) + b"\n\n"


async def _send(send: Send, body: bytes, *, is_last: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not is_last})
