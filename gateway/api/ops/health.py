"""Models, health and metrics: what can be asked without generating anything."""

import asyncio
import time

from litestar import Response, get
from litestar.types import ASGIApp
from msgspec import UNSET, Struct

from gateway.admission.admission import MONITORING, PUBLIC
from gateway.api.openai.protocol.answers import Model, ModelList, encode
from gateway.errors import retry_headers
from gateway.http.context import AnyRequest, Context, context_of
from gateway.http.streaming import JSONBytes
from gateway.models.health import HealthState, Progress, problems_of, progress_of, state_of
from gateway.models.registry import LOADING_RETRY_SECONDS, ModelRegistry
from gateway.observability.metrics.exposition import CONTENT_TYPE, render
from gateway.observability.metrics.processes import ProcessUsage, own_usage, usage_of_tree
from runtime.hardware.nvml import GpuReading
from runtime.messages.wire import EngineInfo, EngineLimits, EngineStats
from runtime.version import __version__


class Version(Struct, frozen=True):
    """The answer of GET /version."""

    version: str


class Readiness(Struct, frozen=True):
    """`status` is "ok" when a request sent now would be taken, else "unavailable" or "draining"."""

    status: str
    reason: str


class Health(Struct, frozen=True, kw_only=True):
    """The state of the server, for people and monitors. `gpu_problem` is why there are no GPUs.

    `state` says more than `status`: a degraded server takes requests, and `reason` is why somebody
    should look after it.
    """

    status: str
    reason: str
    state: HealthState
    progress: Progress
    version: str
    model: str
    num_requests_in_flight: int
    engine: EngineInfo | None
    limits: EngineLimits | None
    stats: dict[str, float]
    gpus: tuple[GpuReading, ...]
    gpu_problem: str


@get("/v1/models", sync_to_thread=False)
def list_models(request: AnyRequest) -> ASGIApp:
    """The models that are served."""
    models = context_of(request).models
    return JSONBytes(encode(ModelList(data=[_describe(models, name) for name in models.names])))


@get("/v1/models/{model_id:path}", sync_to_thread=False)
def retrieve_model(request: AnyRequest) -> ASGIApp:
    """One model. Names may contain slashes."""
    model_id = str(request.path_params["model_id"]).removeprefix("/")
    return JSONBytes(encode(_describe(context_of(request).models, model_id)))


@get("/health/live", opt={PUBLIC: True}, sync_to_thread=False)
def live() -> ASGIApp:
    """The process answers. Says nothing about the model."""
    return JSONBytes(b'{"status":"ok"}')


@get("/health/ready", opt={PUBLIC: True}, sync_to_thread=False)
def ready(request: AnyRequest) -> ASGIApp:
    """Whether a request sent now would be taken: 200 or 503."""
    context = context_of(request)
    return _health_response(context, Readiness(_status(context), _reason(context)))


@get("/health", opt={MONITORING: True}, sync_to_thread=False)
def health(request: AnyRequest) -> ASGIApp:
    """All that the server knows about itself; the status is that of /health/ready."""
    context, now = context_of(request), time.monotonic()
    model, client = context.model, context.model.client
    problems = problems_of(client, context.gpus.pressure_reason, now)
    return _health_response(
        context,
        Health(
            status=_status(context),
            reason=_reason(context) or " ".join(problems),
            state=state_of(client, model.has_tokenizer, problems),
            progress=progress_of(client, now),
            version=__version__,
            model=model.name,
            num_requests_in_flight=client.num_in_flight,
            engine=client.info,
            limits=client.limits,
            stats=_stats(client.stats),
            gpus=context.gpus.snapshot.gpus,
            gpu_problem=context.gpus.snapshot.problem,
        ),
    )


@get("/version", sync_to_thread=False)
def version() -> ASGIApp:
    """The version of this server."""
    return JSONBytes(encode(Version(__version__)))


@get("/metrics", opt={MONITORING: True})
async def metrics_text(request: AnyRequest) -> Response[bytes]:
    """Prometheus text."""
    context = context_of(request)
    clients = {model.name: model.client for model in context.models}
    usages = await asyncio.to_thread(_usages, [client.info for client in clients.values()])
    text = render(context.metrics, clients, context.gpus, usages)
    # Litestar adds the character set to whatever is text
    return Response(text, media_type=CONTENT_TYPE.removesuffix("; charset=utf-8"))


def _usages(engines: list[EngineInfo | None]) -> dict[str, ProcessUsage]:
    """Of the gateway, and of all engines together."""
    found = [usage_of_tree(info.pid) for info in engines if info is not None and info.pid]
    alive = [usage for usage in found if usage is not None]
    engine = ProcessUsage(
        sum(usage.cpu_seconds for usage in alive), sum(usage.memory_bytes for usage in alive)
    )
    return {"gateway": own_usage(), "engine": engine}


def _describe(models: ModelRegistry, name: str) -> Model:
    model = models.get(name)
    limits = model.client.limits
    return Model(
        id=name,
        created=model.created,
        root=models.base_of(model.name) or model.name,
        parent=models.base_of(model.name),
        max_model_len=UNSET if limits is None else limits.max_model_len,
    )


def _is_ready(context: Context) -> bool:
    if context.drain.is_draining:
        return False
    return context.model.is_ready and not context.gpus.under_pressure


def _status(context: Context) -> str:
    if context.drain.is_draining:
        return "draining"
    return "ok" if _is_ready(context) else "unavailable"


def _reason(context: Context) -> str:
    if context.drain.is_draining:
        left = context.drain.num_running
        return f"The server takes nothing new and finishes what it has; requests left: {left}."
    return context.model.state_reason or context.gpus.pressure_reason


def _stats(stats: EngineStats) -> dict[str, float]:
    return {name: getattr(stats, name) for name in stats.__struct_fields__}


def _health_response(context: Context, body: Struct) -> ASGIApp:
    if _is_ready(context):
        return JSONBytes(encode(body))
    return JSONBytes(encode(body), 503, retry_headers(LOADING_RETRY_SECONDS))
