"""Traces, where somebody wants them: what is told about a request, and who takes it.

OpenTelemetry is an extra that is imported only when `otel.endpoint` is set; `gateway.observability.otel` is the
only module that knows it.
"""

import asyncio
import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, cast

from msgspec import Struct

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    WorkRequest,
)
from gateway.observability.request_record import Exchange
from gateway.settings.loader import OtelSettings
from runtime.errors import MissingExtra, SetupError

_MAX_MODEL_NAME = 256
"""Characters of a name that a client made up."""


class FinishedRequest(Struct, frozen=True):
    """An HTTP request that is over, `seconds` after it came. `operation` is GenAI's name for what
    the route does."""

    exchange: Exchange
    method: str
    endpoint: str
    operation: str
    headers: Iterable[tuple[bytes, bytes]]
    seconds: float


class Tracer(Protocol):
    """Takes finished requests. `record` returns at once and fails for nobody's sake; `close` sends
    what is left, in seconds at most."""

    def record(self, request: FinishedRequest) -> None: ...

    def close(self) -> None: ...


def start_tracer(settings: OtelSettings) -> Tracer | None:
    """None where traces are off. Raises SetupError when the setting is no URL or the extra is
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


def request_attributes(data: WorkRequest) -> dict[str, Any]:
    """`gen_ai.request.*` of OpenTelemetry's semantic conventions: numbers, and no text."""
    model = {"gen_ai.request.model": data.model[:_MAX_MODEL_NAME]}
    return model | (_generation(data) if isinstance(data, GenerationRequest) else {})


def _generation(data: GenerationRequest) -> dict[str, Any]:
    attributes = {
        "gen_ai.request.max_tokens": _max_tokens(data),
        "gen_ai.request.temperature": data.temperature,
        "gen_ai.request.top_p": data.top_p,
        "gen_ai.request.top_k": data.top_k,
        "gen_ai.request.seed": data.seed,
        "gen_ai.request.presence_penalty": data.presence_penalty,
        "gen_ai.request.frequency_penalty": data.frequency_penalty,
        "gen_ai.request.choice.count": data.n,
        "gen_ai.request.stream": data.stream,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _max_tokens(data: GenerationRequest) -> int | None:
    match data:
        case ChatCompletionRequest():
            return data.max_completion_tokens or data.max_tokens
        case CompletionRequest():
            return data.max_tokens
    return None
