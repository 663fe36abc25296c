"""GET /health, /health/live and /health/ready: the state of the server."""

import time

from litestar import get
from litestar.types import ASGIApp
from msgspec import Struct, structs

from gateway.admission.middleware import MONITORING, PUBLIC
from gateway.errors import retry_headers
from gateway.generation.writer import encode
from gateway.http.context import AnyRequest, Context, CurrentContext
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts
from gateway.models.health import (
    HealthState,
    Loading,
    Progress,
    loading_of,
    problems_of,
    progress_of,
    state_of,
)
from gateway.models.manager.slot import ModelReport
from gateway.models.served_model import LOADING_RETRY_SECONDS
from runtime.hardware.readings import GpuReading
from runtime.messages.engine import EngineInfo, EngineLimits, EngineStats
from runtime.version import __version__


class Readiness(Struct, frozen=True):
    """`status` is "ok" if a request would be accepted now, else "unavailable" or "draining"."""

    status: str
    reason: str


class Health(Struct, frozen=True, kw_only=True):
    """The state of the server, for people and monitors. `gpu_problem` says why no GPU is shown.

    `state` says more than `status`: a degraded server accepts requests, and `reason` says why it
    needs attention. `loading` is what an engine that starts waits for, null when none does. All of
    this is about the model that answers requests which name none; `models` has every model by its
    name.
    """

    status: str
    reason: str
    state: HealthState
    progress: Progress
    loading: Loading | None
    version: str
    model: str
    num_requests_in_flight: int
    engine: EngineInfo | None
    limits: EngineLimits | None
    stats: dict[str, float]
    gpus: tuple[GpuReading, ...]
    gpu_problem: str
    models: dict[str, ModelReport] = {}


@get("/health/live", opt={PUBLIC: True}, sync_to_thread=False)
def live() -> ASGIApp:
    """The process answers. The status says nothing about the model."""
    return JSONBytes(b'{"status":"ok"}')


@get(
    "/health/ready",
    opt={PUBLIC: True, **facts(answer=Readiness, errors=(503,), unavailable=Readiness)},
    sync_to_thread=False,
)
def ready(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Whether a request would be accepted now: 200 or 503."""
    return _health_response(context, Readiness(_status(context), _reason(context)))


@get(
    "/health",
    opt={MONITORING: True, **facts(answer=Health, errors=(503,), unavailable=Health)},
)
async def health(context: CurrentContext) -> ASGIApp:
    """Everything that the server knows about itself. The HTTP status is that of /health/ready."""
    await context.manager.measure()
    now = time.monotonic()
    model, engine = context.model, context.model.engine
    problems = problems_of(engine, context.gpus.pressure_reason, now)
    return _health_response(
        context,
        Health(
            status=_status(context),
            reason=_reason(context) or " ".join(problems),
            state=state_of(engine, model.has_tokenizer, problems),
            progress=progress_of(engine, now),
            loading=loading_of(engine, now),
            version=__version__,
            model=model.name,
            num_requests_in_flight=engine.num_in_flight,
            engine=engine.info,
            limits=engine.limits,
            stats=_stats(engine.stats),
            gpus=context.gpus.snapshot.gpus,
            gpu_problem=context.gpus.snapshot.problem,
            models=dict(context.manager.states()),
        ),
    )


def _is_ready(context: Context) -> bool:
    if context.drain.is_draining:
        return False
    if context.manager.starting or context.gpus.under_pressure:
        return False
    return context.manager.is_available(context.model.name)


def _status(context: Context) -> str:
    if context.drain.is_draining:
        return "draining"
    return "ok" if _is_ready(context) else "unavailable"


def _reason(context: Context) -> str:
    if context.drain.is_draining:
        left = context.drain.num_running
        return f"The server takes nothing new and finishes what it has; requests left: {left}."
    return context.model.state_reason or context.gpus.pressure_reason or _others_loading(context)


def _others_loading(context: Context) -> str:
    names = ", ".join(f"`{name}`" for name in context.manager.starting)
    return f"Models are loading: {names}." if names else ""


def _stats(stats: EngineStats) -> dict[str, float]:
    usage, disk = structs.asdict(stats.usage), structs.asdict(stats.usage.disk)
    all_of_them = structs.asdict(stats) | usage
    all_of_them |= {f"disk_{name.removeprefix('num_')}": value for name, value in disk.items()}
    return {name: value for name, value in all_of_them.items() if name not in ("usage", "disk")}


def _health_response(context: Context, body: Struct) -> ASGIApp:
    if _is_ready(context):
        return JSONBytes(encode(body))
    return JSONBytes(encode(body), 503, retry_headers(LOADING_RETRY_SECONDS))
