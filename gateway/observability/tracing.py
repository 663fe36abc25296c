"""Traces, if the settings enable them: the interface to OpenTelemetry.

OpenTelemetry is an extra that is imported only when `otel.endpoint` is set;
`gateway.observability.otel` is the only module that imports it.
"""

import asyncio
import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from gateway.observability.finished_request import (
    Tracer,
)
from gateway.settings.schema import OtelSettings
from runtime.errors import MissingExtra, SetupError


def start_tracer(settings: OtelSettings) -> Tracer | None:
    """None if traces are off. Raises SetupError if the setting is not a URL or the extra is
    missing."""
    if not settings.endpoint:
        return None
    if not settings.endpoint.startswith(("http://", "https://")):
        raise SetupError(
            f"otel.endpoint: {settings.endpoint!r} is no URL; write http://HOST:4318, or leave it"
            " empty for no traces"
        )
    if importlib.util.find_spec("opentelemetry") is None:
        raise MissingExtra("OpenTelemetry", "otel")
    return cast(Tracer, importlib.import_module("gateway.observability.otel").start(settings))


def tracing(tracer: Tracer | None) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Closes the tracer with the application."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            if tracer is not None:
                await asyncio.to_thread(tracer.close)

    return lifespan
