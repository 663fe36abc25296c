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
from gateway.info import health, list_models, live, metrics_text, ready, retrieve_model
from gateway.metrics import Metrics
from gateway.registry import ModelRegistry, ServedModel
from gateway.settings import Settings
from runtime import Supervisor

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
        scope = cast(Scope, scope)
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
    supervisor = Supervisor(settings.engine, path, on_event=metrics.on_engine_event)
    model = ServedModel(_served_name(settings, model_path), supervisor.client)
    context = Context(settings, ModelRegistry([model]), model, metrics)
    return Gateway(
        route_handlers=ROUTES,
        state=State({"context": context}),
        lifespan=[_lifespan(supervisor, model, path)],
        exception_handlers={Exception: handle_error},
        request_max_body_size=settings.server.max_body_bytes,
        openapi_config=None,  # bodies are decoded by hand, so a generated document would be empty
        logging_config=None,
        debug=False,
    )


def _lifespan(
    supervisor: Supervisor, model: ServedModel, path: str
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await supervisor.start()
        loading = asyncio.create_task(model.load(path))
        try:
            yield
        finally:
            loading.cancel()
            await supervisor.stop()

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


def _with_headers(send: Send, exchange: Exchange) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
            message["headers"] = [*message["headers"], *exchange.response_headers()]
        await send(message)

    return send_with_headers


def _endpoint(scope: Scope) -> str:
    """The route's path: unknown paths are one endpoint, or their number would have no end."""
    return str(scope.get("path_template") or "unknown")
