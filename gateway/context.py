"""What all handlers share, reached through the application's state."""

import time
from typing import Any

from litestar import Request
from msgspec import Struct

from gateway.exchange import Exchange, key_fingerprint
from gateway.metrics import Metrics
from gateway.registry import ModelRegistry, ServedModel
from gateway.service import Origin
from gateway.settings import Settings
from runtime import GpuMonitor

AnyRequest = Request[Any, Any, Any]


class Context(Struct, frozen=True):
    """One running server. `model` is the one that it was started with."""

    settings: Settings
    models: ModelRegistry
    model: ServedModel
    metrics: Metrics
    gpus: GpuMonitor


def context_of(request: AnyRequest) -> Context:
    """The server that this request came to."""
    context = request.app.state.context
    assert isinstance(context, Context), "create_app puts it there"
    return context


def model_of(request: AnyRequest, name: str | None) -> ServedModel:
    """The model of this name, the server's own for None. Raises UnknownModel."""
    context = context_of(request)
    return context.model if name is None else context.models.get(name)


def origin_of(request: AnyRequest) -> Origin:
    """When and from whom this request came."""
    arrival_time = Exchange.of(request.scope).started
    engine = context_of(request).settings.engine
    return Origin(
        arrival_time=arrival_time,
        unix_time=time.time() - (time.monotonic() - arrival_time),
        key_fingerprint=key_fingerprint(request.scope["headers"]),
        max_queue_seconds=engine.max_queue_seconds,
        prefix_caching=engine.prefix_caching,
    )
