"""The application: routes, start and stop. Wiring only."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

from litestar import Litestar
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.types import (
    LifeSpanReceive,
    LifeSpanScope,
    LifeSpanSend,
    Message,
    Receive,
    Scope,
    Send,
)

from gateway.chat import create_chat_completion
from gateway.completions import create_completion
from gateway.context import Context
from gateway.errors import handle_error
from gateway.exchange import Exchange
from gateway.generate import generate
from gateway.info import (
    health,
    list_models,
    live,
    metrics_text,
    ready,
    retrieve_model,
    version,
)
from gateway.metrics import Metrics
from gateway.openapi import openapi_json
from gateway.registry import ModelRegistry, ServedModel
from gateway.settings import Settings
from gateway.tokens import detokenize, tokenize
from runtime import FromEngine, GpuMonitor, Ready, Supervisor

CLIENT_LEFT = 499
"""Status in the metrics of a request whose client left before the response began."""

ROUTES = (
    create_chat_completion,
    create_completion,
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
    openapi_json,
)


class Gateway(Litestar):
    """Litestar with an `Exchange` around every request, those that no route takes included: it
    gives each response its id and times, and counts it."""

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)
            return
        scope = _as_get(cast(Scope, scope))
        exchange = Exchange(scope["headers"])
        exchange.attach(scope)
        context = cast(Context, self.state.context)
        try:
            await super().__call__(scope, receive, _with_headers(cast(Send, send), exchange))
        finally:
            status = exchange.status or CLIENT_LEFT
            context.metrics.on_response(_endpoint(scope), status, exchange.error_code)


def create_app(settings: Settings, model_path: str) -> Litestar:
    """The server for one model. `model_path` is its file or folder; empty for the scripted engine
    without a tokenizer of its own. The engine starts with the application, not before."""
    path = model_path or settings.model.tokenizer
    metrics = Metrics()
    gpus = _gpu_monitor(settings)
    supervisor = Supervisor(settings.engine, path, on_event=_listener(metrics, gpus))
    model = ServedModel(_served_name(settings, model_path), supervisor.client, settings.model)
    context = Context(settings, _registry(settings, model), model, metrics, gpus)
    return Gateway(
        route_handlers=ROUTES,
        state=State({"context": context}),
        lifespan=[_lifespan(settings, supervisor, model, path, gpus)],
        exception_handlers={Exception: handle_error},
        request_max_body_size=settings.server.max_body_bytes,
        openapi_config=None,  # bodies are decoded by hand: gateway.openapi writes the document
        logging_config=None,
        debug=False,
    )


def _registry(settings: Settings, model: ServedModel) -> ModelRegistry:
    engine = settings.engine
    adapters = engine.tensorrt_llm.lora.adapters if engine.name == "tensorrt_llm" else {}
    return ModelRegistry(
        [model], adapters=dict.fromkeys(adapters, model.name), aliases=settings.model.aliases
    )


def min_free_bytes(settings: Settings) -> int | None:
    """What `gpu.min_free_memory_gb` means: 0 is off, None is for the guard to choose."""
    wanted = settings.gpu.min_free_memory_gb
    if wanted != "auto":
        return round(wanted * 1e9)
    # llama.cpp takes what it needs when it loads; TensorRT-LLM takes more while it runs
    return None if settings.engine.name == "tensorrt_llm" else 0


def _gpu_monitor(settings: Settings) -> GpuMonitor:
    gpu = settings.gpu
    return GpuMonitor(
        interval=gpu.interval,
        min_free_bytes=min_free_bytes(settings),
        devices=gpu.devices,
        problem="the GPUs have not been read yet" if gpu.enabled else "gpu.enabled is false",
    )


def _listener(metrics: Metrics, gpus: GpuMonitor) -> Callable[[FromEngine], None]:
    def listen(event: FromEngine) -> None:
        metrics.on_engine_event(event)
        if isinstance(event, Ready):
            gpus.engine_loaded()

    return listen


def _lifespan(
    settings: Settings, supervisor: Supervisor, model: ServedModel, path: str, gpus: GpuMonitor
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await supervisor.start()
        loading = asyncio.create_task(model.load(path))
        if settings.gpu.enabled:
            gpus.start()
        try:
            yield
        finally:
            loading.cancel()
            await supervisor.stop()
            await asyncio.to_thread(gpus.stop)

    return lifespan


def _served_name(settings: Settings, model_path: str) -> str:
    """The configured name, else the catalogue name, else the file's stem or the folder's name."""
    if settings.model.served_name:
        return settings.model.served_name
    if settings.engine.name == "scripted" and not model_path:
        return "scripted"
    name = settings.model.name_or_path
    if Path(name).is_dir():
        return Path(name).resolve().name
    return Path(name).stem if name.endswith(".gguf") else name


def _as_get(scope: Scope) -> Scope:
    """HEAD is a GET whose body the server does not send; routes know GET alone."""
    if scope.get("method") != "HEAD":
        return scope
    return cast(Scope, {**scope, "method": "GET"})


def _with_headers(send: Send, exchange: Exchange) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            headers = [_allow_head(header) for header in message["headers"]]
            message["headers"] = [*headers, *exchange.response_headers()]
        await send(message)

    return send_with_headers


def _allow_head(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    name, value = header
    if name.lower() == b"allow" and b"GET" in value and b"HEAD" not in value:
        return name, value + b", HEAD"
    return header


def _endpoint(scope: Scope) -> str:
    """The route's path: unknown paths are one endpoint, or their number would have no end."""
    return str(scope.get("path_template") or "unknown")
