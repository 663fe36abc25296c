"""What all handlers share, reached through the application's state."""

from typing import Any

from litestar import Request
from msgspec import Struct

from gateway.metrics import Metrics
from gateway.registry import ModelRegistry, ServedModel
from gateway.settings import Settings

AnyRequest = Request[Any, Any, Any]


class Context(Struct, frozen=True):
    """One running server. `model` is the one that it was started with."""

    settings: Settings
    models: ModelRegistry
    model: ServedModel
    metrics: Metrics


def context_of(request: AnyRequest) -> Context:
    """The server that this request came to."""
    context = request.app.state.context
    assert isinstance(context, Context), "create_app puts it there"
    return context
