"""Requests for responses in the background."""

import secrets

from litestar.types import ASGIApp
from msgspec.structs import replace

from gateway.admission.owner import owner_of
from gateway.api.openai.responses.answers import Response
from gateway.api.openai.responses.background.background import background_of
from gateway.api.openai.responses.background.replay import Replay
from gateway.api.openai.responses.background.run import BackgroundRun
from gateway.api.openai.responses.protocol import ResponseRequest, raw_items
from gateway.generation.writer import encode
from gateway.http.context import AnyRequest, Context
from gateway.http.inner.call import purpose_of
from gateway.http.json_response import JSONBytes
from runtime.errors import InvalidRequest

MAX_SEED = 2**31


def run_behind(request: AnyRequest) -> BackgroundRun | None:
    """The run that makes this request; None for a client's own."""
    purpose = purpose_of(request.scope)
    return purpose if isinstance(purpose, BackgroundRun) else None


async def begin(
    context: Context, request: AnyRequest, data: ResponseRequest, response: Response
) -> ASGIApp:
    """Stores a request whose answer nobody waits for, and begins it. The answer is the response as
    it is now, or the stream of its events. Raises InvalidRequest if nothing is stored here, and
    what the store raises."""
    background = background_of(request)
    if background is None:
        raise InvalidRequest(
            "`background` takes a server that stores responses, and this one does not"
            " (store.enabled). Wait for the answer, or read it as a stream.",
            param="background",
            code="unsupported_value",
        )
    if not response.store:
        raise InvalidRequest(
            "`background` takes a response that is stored: leave `store` out, or send"
            " `store: true`.",
            param="store",
            code="invalid_value",
        )
    run = await background.accept(
        replace(response, status="queued", background=True),
        owner_of(request.scope),
        encode(raw_items(data)),
        encode(_repeatable(data, response.model)),
        keeps_events=bool(data.stream),
    )
    if data.stream:
        return Replay(run, -1, context.settings.server.keep_alive_interval)
    return JSONBytes(encode(run.response))


def _repeatable(data: ResponseRequest, model: str) -> ResponseRequest:
    """The request as the server makes it, perhaps more than once: each time with the same model and
    the same luck."""
    seed = secrets.randbelow(MAX_SEED) if data.seed is None else data.seed
    return replace(data, model=model, seed=seed, stream=True)
