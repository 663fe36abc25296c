"""What all handlers share, reached through the application's state."""

import time
from typing import Any

from litestar import Request
from msgspec import Struct

from gateway.exchange import Exchange, key_fingerprint
from gateway.metrics import Metrics
from gateway.protocol import GenerationRequest
from gateway.registry import ModelRegistry, ServedModel
from gateway.service import Origin
from gateway.settings import Settings
from gateway.tracing import Tracer, request_attributes
from runtime import GpuMonitor

AnyRequest = Request[Any, Any, Any]


class Context(Struct, frozen=True):
    """One running server. `model` is the one that it was started with; `tracer` is None where there
    are no traces."""

    settings: Settings
    models: ModelRegistry
    model: ServedModel
    metrics: Metrics
    gpus: GpuMonitor
    tracer: Tracer | None = None


def context_of(request: AnyRequest) -> Context:
    """The server that this request came to."""
    context = request.app.state.context
    assert isinstance(context, Context), "create_app puts it there"
    return context


def served_model(request: AnyRequest, data: GenerationRequest) -> ServedModel:
    """The model that a request asks for; from here on its metrics, log line and trace name it.
    Raises UnknownModel."""
    context = context_of(request)
    exchange = Exchange.of(request.scope)
    if context.tracer is not None:
        exchange.attributes = request_attributes(data)
    model = context.models.get(data.model)
    exchange.model_name = model.name
    return model


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
