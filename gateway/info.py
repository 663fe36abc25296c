"""Models, health and metrics: what can be asked without generating anything."""

import asyncio

from litestar import Response, get
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.answers import Model, ModelList, encode
from gateway.context import AnyRequest, Context, context_of
from gateway.errors import retry_headers
from gateway.exposition import CONTENT_TYPE, render
from gateway.process_usage import ProcessUsage, own_usage, usage_of_tree
from gateway.registry import LOADING_RETRY_SECONDS, ServedModel
from gateway.streaming import JSONBytes
from runtime import EngineInfo, EngineLimits, EngineState, EngineStats, GpuReading, __version__


class Readiness(Struct, frozen=True):
    """`status` is "ok" when a request sent now would be taken."""

    status: str
    reason: str


class Health(Struct, frozen=True, kw_only=True):
    """The state of the server, for people and monitors. `gpu_problem` is why there are no GPUs."""

    status: str
    reason: str
    state: EngineState
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
    models = [_describe(model) for model in context_of(request).models]
    return JSONBytes(encode(ModelList(data=models)))


@get("/v1/models/{model_id:path}", sync_to_thread=False)
def retrieve_model(request: AnyRequest) -> ASGIApp:
    """One model. Names may contain slashes."""
    model_id = str(request.path_params["model_id"]).removeprefix("/")
    return JSONBytes(encode(_describe(context_of(request).models.get(model_id))))


@get("/health/live", sync_to_thread=False)
def live() -> ASGIApp:
    """The process answers. Says nothing about the model."""
    return JSONBytes(b'{"status":"ok"}')


@get("/health/ready", sync_to_thread=False)
def ready(request: AnyRequest) -> ASGIApp:
    """Whether a request sent now would be taken: 200 or 503."""
    context = context_of(request)
    return _health_response(context, Readiness(_status(context), _reason(context)))


@get("/health", sync_to_thread=False)
def health(request: AnyRequest) -> ASGIApp:
    """All that the server knows about itself; the status is that of /health/ready."""
    context = context_of(request)
    model, client = context.model, context.model.client
    return _health_response(
        context,
        Health(
            status=_status(context),
            reason=_reason(context),
            state=client.state,
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


@get("/metrics")
async def metrics_text(request: AnyRequest) -> Response[bytes]:
    """Prometheus text."""
    context = context_of(request)
    clients = {model.name: model.client for model in context.models}
    usages = await asyncio.to_thread(_usages, [client.info for client in clients.values()])
    text = render(context.metrics, clients, context.gpus, usages)
    return Response(text, media_type=CONTENT_TYPE)


def _usages(engines: list[EngineInfo | None]) -> dict[str, ProcessUsage]:
    """Of the gateway, and of all engines together."""
    found = [usage_of_tree(info.pid) for info in engines if info is not None and info.pid]
    alive = [usage for usage in found if usage is not None]
    engine = ProcessUsage(
        sum(usage.cpu_seconds for usage in alive), sum(usage.memory_bytes for usage in alive)
    )
    return {"gateway": own_usage(), "engine": engine}


def _describe(model: ServedModel) -> Model:
    return Model(id=model.name, created=model.created)


def _is_ready(context: Context) -> bool:
    return context.model.is_ready and not context.gpus.under_pressure


def _status(context: Context) -> str:
    return "ok" if _is_ready(context) else "unavailable"


def _reason(context: Context) -> str:
    return context.model.state_reason or context.gpus.pressure_reason


def _stats(stats: EngineStats) -> dict[str, float]:
    return {name: getattr(stats, name) for name in stats.__struct_fields__}


def _health_response(context: Context, body: Struct) -> ASGIApp:
    if _is_ready(context):
        return JSONBytes(encode(body))
    return JSONBytes(encode(body), 503, retry_headers(LOADING_RETRY_SECONDS))
