"""GET /metrics."""

import asyncio
from collections.abc import Iterable

from litestar import Response, get

from gateway.admission.middleware import MONITORING
from gateway.http.context import CurrentContext
from gateway.http.route_facts import facts
from gateway.observability.metrics.exposition import CONTENT_TYPE, render
from gateway.observability.metrics.processes import ProcessUsage, own_usage, usage_of_tree
from runtime.client.handle import EngineHandle
from runtime.messages.engine import EngineInfo


@get("/metrics", opt={MONITORING: True, **facts(media_type="text/plain")})
async def metrics_text(context: CurrentContext) -> Response[bytes]:
    """The server's metrics as Prometheus text."""
    engines = {model.name: model.engine for model in context.models}
    usages = await asyncio.to_thread(_usages, _running(engines.values()))
    text = render(context.metrics, engines, context.gpus, usages, context.bounds)
    # Litestar adds the character set to whatever is text
    return Response(text, media_type=CONTENT_TYPE.removesuffix("; charset=utf-8"))


def _running(engines: Iterable[EngineHandle]) -> list[EngineInfo | None]:
    """The engines that have a process: those of models that are not loaded have none."""
    return [engine.info for engine in engines if engine.state != "unloaded"]


def _usages(infos: list[EngineInfo | None]) -> dict[str, ProcessUsage]:
    """The usage of the gateway, and of all engines together."""
    found = [usage_of_tree(info.pid) for info in infos if info is not None and info.pid]
    alive = [usage for usage in found if usage is not None]
    engine = ProcessUsage(
        sum(usage.cpu_seconds for usage in alive), sum(usage.memory_bytes for usage in alive)
    )
    return {"gateway": own_usage(), "engine": engine}
