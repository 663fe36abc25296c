"""/admin: for the operator of the server."""

from typing import Literal

from litestar import get, post
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.admission.drain import Drain
from gateway.admission.middleware import ADMIN
from gateway.errors import ServerDraining
from gateway.generation.writer import encode
from gateway.http.body import read_optional_json
from gateway.http.context import AnyRequest, CurrentContext, base_name
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts
from gateway.reload.reloader import ReloadReport


class DrainRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """With `exit` the server ends when its requests are done."""

    exit: bool = True


class DrainState(Struct, frozen=True):
    """Whether the server drains, and its number of running requests."""

    status: Literal["serving", "draining"]
    exit: bool
    num_running: int


class ReloadRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """With `restart_engine` changes that need a new engine process get one."""

    restart_engine: bool = False


class RestartRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which model's engine is to be replaced; null for that of requests that name no model."""

    model: str | None = None


class RestartState(Struct, frozen=True):
    """`num_in_flight` requests continue on the next engine."""

    status: Literal["restarting"]
    num_in_flight: int


@get("/admin/drain", opt={ADMIN: True}, sync_to_thread=False)
def drain_state(context: CurrentContext) -> ASGIApp:
    """Whether the server drains."""
    return _state(context.drain)


@post("/admin/drain", opt={ADMIN: True}, status_code=200)
async def start_drain(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Refuse new requests, finish running ones, and end, unless `exit` is false."""
    data = await read_optional_json(request, DrainRequest)
    drain = context.drain
    drain.begin(exits=data.exit)
    return _state(drain)


@post("/admin/resume", opt={ADMIN: True}, status_code=200)
async def resume(context: CurrentContext) -> ASGIApp:
    """Accept requests again. A server that is about to end refuses with a 409."""
    drain = context.drain
    if not drain.resume():
        raise HTTPException(status_code=409, detail="The server is about to end.")
    return _state(drain)


@post(
    "/admin/restart",
    opt={ADMIN: True, **facts(answer=RestartState, done=202)},
    status_code=202,
)
async def restart_engine(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Start a new engine process, also if the engine was given up. Requests in flight continue on
    it; `/health` shows its progress."""
    data = await read_optional_json(request, RestartRequest)
    name = base_name(context, data.model)
    if context.drain.exits and context.manager.report(name).state in ("unloaded", "failed"):
        raise ServerDraining(context.drain.retry_after)
    if name == context.model.name:
        context.reloader.restart_engine()
    else:
        context.manager.restart(name)
    in_flight = context.models.get(name).engine.num_in_flight
    return JSONBytes(encode(RestartState(status="restarting", num_in_flight=in_flight)), 202)


@post("/admin/reload", opt={ADMIN: True, **facts(answer=ReloadReport)}, status_code=200)
async def reload(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Read settings, keys and certificates again. If one of them is wrong, nothing changes but
    keys, whose own file is right, and the status is 422."""
    data = await read_optional_json(request, ReloadRequest)
    report = await context.reloader.reload(restart_engine=data.restart_engine)
    return JSONBytes(encode(report), 422 if report.errors else 200)


def _state(drain: Drain) -> ASGIApp:
    state = DrainState(
        status="draining" if drain.is_draining else "serving",
        exit=drain.exits,
        num_running=drain.num_running,
    )
    return JSONBytes(encode(state))
