"""The application: routes, start and stop. Wiring only."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from msgspec import structs

from gateway.admission.admission import Admission
from gateway.admission.drain import Drain
from gateway.admission.keys import KeyRing
from gateway.admission.middleware import AdmissionMiddleware
from gateway.admission.quotas import Quotas
from gateway.api.native.generate import generate
from gateway.api.native.tokenize import detokenize, tokenize
from gateway.api.native.tokenizer_info import tokenizer_info
from gateway.api.openai.chat import create_chat_completion
from gateway.api.openai.completions import create_completion
from gateway.api.openai.embeddings import create_embedding
from gateway.api.openai.models import list_models, retrieve_model
from gateway.api.openai.responses.routes import (
    cancel_response,
    count_input_tokens,
    create_response,
    stored_input_items,
    stored_response,
)
from gateway.api.ops.adapters import load_lora_adapter, unload_lora_adapter
from gateway.api.ops.admin import drain_state, restart_engine, resume, start_drain
from gateway.api.ops.health import health, live, ready
from gateway.api.ops.metrics import metrics_text
from gateway.api.ops.openapi import openapi_json
from gateway.api.ops.version import version
from gateway.bounds.bounds import Bounds
from gateway.http.context import Context, provide_context
from gateway.http.deadlines import Uploads
from gateway.http.error_handler import handle_error
from gateway.http.gateway import (
    Gateway,
)
from gateway.http.other_paths import OtherPaths
from gateway.http.route_facts import operations_of
from gateway.http.shared_paths import options_of_shared_paths
from gateway.models.registry import ModelRegistry
from gateway.models.served_model import ServedModel
from gateway.observability.background_writer import BackgroundWriter
from gateway.observability.log import engine_log_form
from gateway.observability.metrics.model import ModelMetrics
from gateway.observability.metrics.server import Metrics
from gateway.observability.request_record import IGNORED_HEADER
from gateway.observability.tracing import start_tracer, tracing
from gateway.settings.schema import Settings
from runtime.client.engine_client import EngineClient
from runtime.config.engine import PrefixCaching
from runtime.config.engines import ENGINES
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.messages.wire import FromEngine, Ready, StepOutput
from runtime.models.catalogue import shipped_catalogue
from runtime.models.integrity.guard import WeightsGuard
from runtime.supervisor.engine_output import EngineOutput
from runtime.supervisor.lessons import Lessons
from runtime.supervisor.supervisor import Supervisor

Lifespan: TypeAlias = Callable[[Litestar], AbstractAsyncContextManager[None]]

LIMIT_FACTS = ("limit", "remaining", "reset")

ROUTES = (
    create_chat_completion,
    create_completion,
    create_response,
    count_input_tokens,
    stored_response,
    stored_input_items,
    cancel_response,
    create_embedding,
    list_models,
    retrieve_model,
    live,
    ready,
    health,
    metrics_text,
    version,
    generate,
    tokenize,
    detokenize,
    tokenizer_info,
    openapi_json,
    drain_state,
    start_drain,
    restart_engine,
    resume,
    load_lora_adapter,
    unload_lora_adapter,
)

EXPOSED_HEADERS = (
    *("x-request-id", "openai-processing-ms", "retry-after", "retry-after-ms", "x-should-retry"),
    *(IGNORED_HEADER.decode(), "x-loosened-keywords"),
    *(f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in LIMIT_FACTS),
)
"""Those that a page of `server.cors_allow_origins` may read."""


def create_app(
    settings: Settings,
    model_path: str,
    keys: KeyRing,
    drain: Drain | None = None,
    stderr: BackgroundWriter | None = None,
) -> Litestar:
    """The server for one model.

    `model_path` is the model's file or folder; empty for the scripted engine without a tokenizer of
    its own. The engine starts with the application, not before. A request needs one of `keys`, or
    none if the ring is empty; `open_key_ring` makes the ring from settings and environment. `drain`
    is given by a caller that waits for its end; otherwise the application makes its own. What the
    engine writes goes to `stderr`, or without it to this process's streams.
    """
    settings = with_prefix_caching(settings, has_keys=keys.is_required)
    path = model_path or settings.model.tokenizer
    name = _served_name(settings, model_path)
    metrics = Metrics(settings.metrics.max_keys, sorted(_path_templates()), operations_of(ROUTES))
    gpus = _gpu_monitor(settings)
    output = None if stderr is None else _engine_output(settings, metrics, stderr)
    supervisor = _supervisor(settings, path, _listener(metrics.of(name), gpus), output, gpus)
    context = _context(
        settings, name, supervisor, metrics, gpus, drain or Drain(settings.server.drain_timeout)
    )
    return _gateway(context, keys, _lifespan(context, supervisor, path))


def _supervisor(
    settings: Settings,
    path: str,
    on_event: Callable[[FromEngine], None],
    output: EngineOutput | None,
    gpus: GpuMonitor,
) -> Supervisor:
    return Supervisor(
        settings.engine,
        path,
        EngineClient(settings.engine.max_num_waiting_tokens),
        on_event=on_event,
        output=output,
        guard=weights_guard(settings, path),
        lessons=Lessons(),
        gpu_bytes=lambda: sum(gpu.memory_used or 0 for gpu in gpus.snapshot.gpus),
    )


def _context(
    settings: Settings,
    name: str,
    supervisor: Supervisor,
    metrics: Metrics,
    gpus: GpuMonitor,
    drain: Drain,
) -> Context:
    bounds = Bounds.of(settings.server)
    model = ServedModel(name, supervisor.client, settings.model, bounds.pool)
    return Context(
        settings=settings,
        models=_registry(settings, model),
        model=model,
        metrics=metrics,
        gpus=gpus,
        drain=drain,
        restart_engine=supervisor.restart,
        abandon_engine=supervisor.abandon,
        bounds=bounds,
        uploads=Uploads(),
        other_paths=OtherPaths(ROUTES),
        tracer=start_tracer(settings.otel),
    )


def _gateway(context: Context, keys: KeyRing, lifespan: Lifespan) -> Gateway:
    settings = context.settings
    admission = Admission(settings, keys, context.drain, Quotas())
    return Gateway(
        route_handlers=[*options_of_shared_paths(ROUTES), *ROUTES],
        state=State({"context": context}),
        dependencies={"context": Provide(provide_context, sync_to_thread=False)},
        middleware=[AdmissionMiddleware(admission)],
        cors_config=_cors(settings.server.cors_allow_origins),
        lifespan=[lifespan, tracing(context.tracer)],
        exception_handlers={Exception: handle_error},
        request_max_body_size=settings.server.max_body_bytes,
        openapi_config=None,  # gateway.api.ops.openapi writes the document
        logging_config=None,
        debug=False,
    )


def _engine_output(settings: Settings, metrics: Metrics, stderr: BackgroundWriter) -> EngineOutput:
    metrics.log_lines_lost.read = lambda: stderr.num_lost
    return EngineOutput(stderr.write, engine_log_form(settings.log))


def with_prefix_caching(settings: Settings, *, has_keys: bool) -> Settings:
    """The settings with "auto" in `engine.prefix_caching` decided. Clients with keys of their own
    may be strangers to each other, and a shared cache tells one what another has sent."""
    if settings.engine.prefix_caching != "auto":
        return settings
    choice: PrefixCaching = "per_tenant" if has_keys else "shared"
    engine = structs.replace(settings.engine, prefix_caching=choice)
    return structs.replace(settings, engine=engine)


def weights_guard(settings: Settings, path: str) -> WeightsGuard | None:
    """The guard of the model's file; None without a model, and for a folder, whose weights are
    copied when they are loaded."""
    if not Path(path).is_file():
        return None
    for entry in shipped_catalogue():
        if (entry.name, entry.file) == (settings.model.name_or_path, Path(path).name):
            return WeightsGuard(Path(path), name=entry.name, expected=entry.sha256)
    return WeightsGuard(Path(path))


def _path_templates() -> set[str]:
    """The paths of all routes in the form of Litestar's `path_template`: parameters without
    types."""
    return {re.sub(r":\w+}", "}", path) for route in ROUTES for path in route.paths}


def _registry(settings: Settings, model: ServedModel) -> ModelRegistry:
    engine = settings.engine
    adapters = dict.fromkeys(engine.adapters, model.name)
    return ModelRegistry([model], adapters=adapters, aliases=settings.model.aliases)


def _cors(origins: list[str]) -> CORSConfig | None:
    """Allows the pages of `server.cors_allow_origins`. Keys travel in a header, so cookies are not
    needed."""
    if not origins:
        return None
    return CORSConfig(allow_origins=origins, expose_headers=list(EXPOSED_HEADERS))


def min_free_bytes(settings: Settings) -> int | None:
    """`gpu.min_free_memory_gb` in bytes: 0 is off, and None lets the guard choose."""
    wanted = settings.gpu.min_free_memory_gb
    if wanted != "auto":
        return round(wanted * 1e9)
    return None if ENGINES[settings.engine.name].grows_while_serving else 0


def _gpu_monitor(settings: Settings) -> GpuMonitor:
    gpu = settings.gpu
    return GpuMonitor(
        interval=gpu.interval,
        min_free_bytes=min_free_bytes(settings),
        devices=gpu.devices,
        problem="the GPUs have not been read yet" if gpu.enabled else "gpu.enabled is false",
    )


def _listener(metrics: ModelMetrics, gpus: GpuMonitor) -> Callable[[FromEngine], None]:
    def listen(event: FromEngine) -> None:
        if isinstance(event, StepOutput):
            metrics.engine.on_step(event)
        elif isinstance(event, Ready):
            gpus.engine_loaded()

    return listen


def _lifespan(context: Context, supervisor: Supervisor, path: str) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await supervisor.start()
        loading = asyncio.create_task(context.model.load(path))
        context.bounds.lag.start()
        if context.settings.gpu.enabled:
            context.gpus.start()
        try:
            yield
        finally:
            loading.cancel()
            context.bounds.close()
            await supervisor.stop()
            await asyncio.to_thread(context.gpus.stop)

    return lifespan


def _served_name(settings: Settings, model_path: str) -> str:
    """The configured name, else the catalogue name, else the file's stem or the folder's name."""
    if settings.model.served_name:
        return settings.model.served_name
    if not model_path and ENGINES[settings.engine.name].model_form == "any":
        return str(settings.engine.name)
    name = settings.model.name_or_path
    if Path(name).is_dir():
        return Path(name).resolve().name
    return Path(name).stem if name.endswith(".gguf") else name
