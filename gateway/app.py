"""The application: routes, start and stop. Wiring only."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

from litestar import Litestar
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
from gateway.api.openai.conversations.routes import (
    create_conversation,
    create_conversation_items,
    delete_conversation,
    delete_conversation_item,
    list_conversation_items,
    retrieve_conversation,
    retrieve_conversation_item,
    update_conversation,
)
from gateway.api.openai.embeddings import create_embedding
from gateway.api.openai.models import list_models, retrieve_model
from gateway.api.openai.ranking.routes import rerank, score
from gateway.api.openai.responses.background.background import Background
from gateway.api.openai.responses.compaction.routes import compact_response
from gateway.api.openai.responses.routes import count_input_tokens, create_response
from gateway.api.openai.responses.stored.routes import (
    cancel_response,
    delete_response,
    stored_input_items,
    stored_response,
)
from gateway.api.openai.stored_chats.routes import (
    delete_chat_completion,
    list_chat_completions,
    stored_chat_completion,
    stored_chat_messages,
    update_chat_completion,
)
from gateway.api.openai.usage.routes import completions_usage, embeddings_usage
from gateway.api.ops.adapters import load_lora_adapter, unload_lora_adapter
from gateway.api.ops.admin import drain_state, reload, restart_engine, resume, start_drain
from gateway.api.ops.health import health, live, ready
from gateway.api.ops.loading import change_model, model_reports
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
from gateway.models.manager.factory import Listen, ModelFactory
from gateway.models.manager.gpu_memory import free_gpu_bytes
from gateway.models.manager.manager import ModelManager
from gateway.models.manager.memory import MachineMemory
from gateway.models.manager.slot import Slot
from gateway.models.manager.spec import specs_of
from gateway.models.manager.unlisted import UnlistedModels
from gateway.models.pulls.lookup import Lookups
from gateway.models.registry import ModelRegistry
from gateway.observability.background_writer import BackgroundWriter
from gateway.observability.log import engine_log_form
from gateway.observability.metrics.server import Metrics
from gateway.observability.tracing import start_tracer, tracing
from gateway.reload.engine import ManagedEngine
from gateway.reload.part import Part
from gateway.reload.parts import keys_part, server_parts, told
from gateway.reload.reloader import Reloader
from gateway.reload.watching import Watcher
from gateway.settings.live import LiveSettings
from gateway.settings.schema import LogSettings, Settings
from gateway.settings.source import SettingsSource
from gateway.store.opening import store_of
from gateway.store.upkeep.sweep import Limits
from gateway.usage.ledger import Ledger
from runtime.config.engine import EngineConfig, PrefixCaching
from runtime.config.engines import ENGINES
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.messages.wire import FromEngine, Ready, StepOutput
from runtime.supervisor.engine_output import EngineOutput

Lifespan: TypeAlias = Callable[[Litestar], AbstractAsyncContextManager[None]]

ROUTES = (
    create_chat_completion,
    list_chat_completions,
    stored_chat_completion,
    update_chat_completion,
    delete_chat_completion,
    stored_chat_messages,
    create_completion,
    create_response,
    compact_response,
    count_input_tokens,
    stored_response,
    stored_input_items,
    cancel_response,
    delete_response,
    create_conversation,
    retrieve_conversation,
    update_conversation,
    delete_conversation,
    create_conversation_items,
    list_conversation_items,
    retrieve_conversation_item,
    delete_conversation_item,
    create_embedding,
    rerank,
    score,
    list_models,
    retrieve_model,
    completions_usage,
    embeddings_usage,
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
    reload,
    resume,
    model_reports,
    change_model,
    load_lora_adapter,
    unload_lora_adapter,
)


def create_app(
    settings: Settings,
    model_path: str | Mapping[str, str],
    keys: KeyRing,
    drain: Drain | None = None,
    stderr: BackgroundWriter | None = None,
    source: SettingsSource | None = None,
) -> Litestar:
    """The server for the models of the settings.

    `model_path` is the model's file or folder; empty for the scripted engine without a tokenizer of
    its own. Of several models it has those by name. The engines start with the application, not
    before. A request needs one of `keys`, or none if the ring is empty; `open_key_ring` makes the
    ring from settings and environment. `drain` is given by a caller that waits for its end;
    otherwise the application makes its own. What the engines write goes to `stderr`, or without it
    to this process's streams. From `source` the settings are read again; without it they stay as
    they are.
    """
    complete = partial(with_prefix_caching, has_keys=keys.is_required)
    live = LiveSettings(settings := complete(settings))
    metrics = Metrics(settings.metrics.max_keys, sorted(_path_templates()), operations_of(ROUTES))
    gpus = _gpu_monitor(settings)
    output = None if stderr is None else _engine_output(settings, metrics, stderr)
    bounds = Bounds.of(settings.server)
    factory = ModelFactory(_listeners(metrics, gpus), gpus, bounds.pool, output)
    slots = [factory.slot(spec) for spec in specs_of(settings, model_path)]
    memory = MachineMemory(
        settings.loading.max_bytes, gpu_free=lambda: free_gpu_bytes(live.current.gpu.devices)
    )
    drain = drain or Drain(settings.server.drain_timeout)
    manager = ModelManager(slots, memory, settings.loading, is_ending=lambda: drain.exits)
    reloader = _reloader(live, source, complete, ManagedEngine(manager, slots[0]), keys)
    slots[0].runner.on_refused = reloader.engine_refused
    context = _context(live, slots, manager, factory, metrics, gpus, drain, bounds, reloader)
    reloader.add(*_parts(context), _output_part(live, output))
    watcher = Watcher(reloader, live, None if source is None else source.file)
    return _gateway(context, keys, watcher)


def _reloader(
    live: LiveSettings,
    source: SettingsSource | None,
    complete: Callable[[Settings], Settings],
    engine: ManagedEngine,
    keys: KeyRing,
) -> Reloader:
    settled = live.current if source is None else source.loaded
    load = (lambda: settled) if source is None else source.load
    return Reloader(live, load, settled, complete=complete, engine=engine, keys=keys_part(keys))


def _parts(context: Context) -> list[Part]:
    gpus = told(context.live, lambda s: (s.gpu, min_free_bytes(s)), lambda _: _set_gpus(context))
    return [
        gpus,
        *_store_parts(context),
        *server_parts(
            context.live,
            drain=context.drain,
            bounds=context.bounds,
            metrics=context.metrics,
            models=context.models,
        ),
    ]


def _store_parts(context: Context) -> list[Part]:
    if context.store is None:
        return []
    return [told(context.live, lambda s: Limits.of(s.store), context.store.keep_within)]


def _set_gpus(context: Context) -> None:
    gpu = context.settings.gpu
    context.gpus.use(
        interval=gpu.interval,
        min_free_bytes=min_free_bytes(context.settings),
        devices=gpu.devices,
    )


def _output_part(live: LiveSettings, output: EngineOutput | None) -> Part:
    """The form of the engines' log lines, which is that of the next process of each."""

    def tell(log: LogSettings) -> None:
        if output is not None:
            output.form = engine_log_form(log)

    return told(live, lambda s: s.log, tell)


def _context(
    live: LiveSettings,
    slots: Sequence[Slot],
    manager: ModelManager,
    factory: ModelFactory,
    metrics: Metrics,
    gpus: GpuMonitor,
    drain: Drain,
    bounds: Bounds,
    reloader: Reloader,
) -> Context:
    settings = live.current
    if (store := store_of(settings.store)) is not None:
        metrics.store_swept.read = lambda: store.sweep.num_deleted
        metrics.store_lost.read = lambda: store.num_lost
        metrics.store_waiting.read = lambda: store.num_waiting
    models = ModelRegistry(
        [slot.model for slot in slots],
        adapters={name: slot.name for slot in slots for name in slot.spec.engine.adapters},
        aliases=settings.aliases,
    )
    lookups = Lookups()
    return Context(
        live=live,
        models=models,
        model=slots[0].model,
        metrics=metrics,
        gpus=gpus,
        drain=drain,
        manager=manager,
        unlisted=UnlistedModels(settings, models, manager, factory, lookups),
        lookups=lookups,
        bounds=bounds,
        uploads=Uploads(),
        other_paths=OtherPaths(ROUTES),
        reloader=reloader,
        ledger=Ledger(store),
        store=store,
        tracer=start_tracer(settings.otel),
    )


def _gateway(context: Context, keys: KeyRing, watcher: Watcher) -> Gateway:
    background = _background(context)
    lifespan = _lifespan(context, watcher, background)
    admission = Admission(context.live, keys, context.drain, Quotas())
    gateway = Gateway(
        route_handlers=[*options_of_shared_paths(ROUTES), *ROUTES],
        state=State({"context": context, "background": background}),
        dependencies={"context": Provide(provide_context, sync_to_thread=False)},
        middleware=[AdmissionMiddleware(admission)],
        lifespan=[lifespan, tracing(context.tracer)],
        exception_handlers={Exception: handle_error},
        request_max_body_size=None,  # gateway.http.body reads bodies
        openapi_config=None,  # gateway.api.ops.openapi writes the document
        logging_config=None,
        debug=False,
    )
    gateway.allow_origins(context.settings.server.cors_allow_origins)
    origins = told(context.live, lambda s: s.server.cors_allow_origins, gateway.allow_origins)
    context.reloader.add(origins)
    return gateway


def _background(context: Context) -> Background | None:
    if context.store is None:
        return None
    background = Background(
        context.store,
        context.settings.store.max_background_running,
        models=lambda: context.models.names,
        is_ending=lambda: context.drain.exits,
    )
    context.metrics.background.read = lambda: len(background.runs)
    return background


def _engine_output(settings: Settings, metrics: Metrics, stderr: BackgroundWriter) -> EngineOutput:
    metrics.log_lines_lost.read = lambda: stderr.num_lost
    return EngineOutput(stderr.write, engine_log_form(settings.log))


def with_prefix_caching(settings: Settings, *, has_keys: bool) -> Settings:
    """The settings with "auto" in `engine.prefix_caching` decided. Clients with keys of their own
    may be strangers to each other, and a shared cache tells one what another has sent."""
    choice: PrefixCaching = "per_tenant" if has_keys else "shared"
    models = {
        name: structs.replace(model, engine=_decided(model.engine, choice))
        for name, model in settings.models.items()
    }
    return structs.replace(settings, engine=_decided(settings.engine, choice), models=models)


def _decided(engine: EngineConfig, choice: PrefixCaching) -> EngineConfig:
    if engine.prefix_caching != "auto":
        return engine
    return structs.replace(engine, prefix_caching=choice)


def _path_templates() -> set[str]:
    """The paths of all routes in the form of Litestar's `path_template`: parameters without
    types."""
    return {re.sub(r":\w+}", "}", path) for route in ROUTES for path in route.paths}


def min_free_bytes(settings: Settings) -> int | None:
    """`gpu.min_free_memory_gb` in bytes: 0 is off, and None lets the guard choose."""
    wanted = settings.gpu.min_free_memory_gb
    if wanted != "auto":
        return round(wanted * 1e9)
    engines = [model.engine for model in settings.models.values()] or [settings.engine]
    return None if any(ENGINES[engine.name].grows_while_serving for engine in engines) else 0


def _gpu_monitor(settings: Settings) -> GpuMonitor:
    gpu = settings.gpu
    return GpuMonitor(
        interval=gpu.interval,
        min_free_bytes=min_free_bytes(settings),
        devices=gpu.devices,
        problem="the GPUs have not been read yet" if gpu.enabled else "gpu.enabled is false",
    )


def _listeners(metrics: Metrics, gpus: GpuMonitor) -> Listen:
    def listener_of(name: str) -> Callable[[FromEngine], None]:
        engine = metrics.of(name).engine

        def listen(event: FromEngine) -> None:
            if isinstance(event, StepOutput):
                engine.on_step(event)
            elif isinstance(event, Ready):
                gpus.engine_loaded()

        return listen

    return listener_of


def _lifespan(context: Context, watcher: Watcher, background: Background | None) -> Lifespan:
    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        if context.store is not None:
            context.store.open()
        await context.ledger.open()
        await context.manager.start()
        watching = asyncio.create_task(watcher.run(), name="file-watch")
        counting = asyncio.create_task(context.ledger.run(), name="ledger")
        context.bounds.lag.start()
        if context.settings.gpu.enabled:
            context.gpus.start()
        if background is not None:
            background.start(app)
        try:
            yield
        finally:
            if background is not None:
                await background.stop()
            watching.cancel()
            context.bounds.close()
            await context.manager.stop()
            await asyncio.to_thread(context.gpus.stop)
            counting.cancel()
            await context.ledger.close()
            if context.store is not None:
                await asyncio.to_thread(context.store.close)

    return lifespan
