"""OpenTelemetry: one span for each request, with its phases as children, sent over OTLP.

A span is made when its request is over, from times that are recorded anyway, so tracing does not
delay the answer. Names follow the semantic conventions for HTTP and for GenAI.
"""

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.observability.answer_record import AnswerRecord
from gateway.observability.finished_request import FinishedRequest
from gateway.observability.metrics.server import PROVIDER
from gateway.observability.request_record import RequestRecord
from gateway.settings.schema import OtelSettings
from runtime.version import __version__

EXPORT_SECONDS = 5.0
"""Time limit of one attempt to reach the collector, and so roughly of `close`."""

_TRACES_PATH = "/v1/traces"
_CONTEXT_HEADERS = (b"traceparent", b"tracestate")


class OtelTracer:
    """Makes spans and hands them to a processor, which sends them from its own thread and drops
    spans that it cannot send."""

    def __init__(self, settings: OtelSettings, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
            resource=Resource.create(
                {"service.name": settings.service_name, "service.version": __version__}
            ),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("lockgate", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, request: FinishedRequest) -> None:
        """The spans of one request."""
        request_record = request.request_record
        clock = _WallClock()
        span = self._tracer.start_span(
            f"{request.operation} {request_record.model_name}".rstrip(),
            context=self._parent(request),
            kind=SpanKind.SERVER,
            start_time=clock.at(request_record.started),
        )
        if span.is_recording():
            span.set_attributes(_attributes(request))
            span.set_status(_status(request_record))
            if request_record.answer is not None:
                self._add_phases(span, request_record.started, request_record.answer, clock)
        span.end(clock.at(request_record.started + request.seconds))

    def close(self) -> None:
        """Sends the remaining spans, or gives up after a few seconds."""
        self._provider.shutdown()

    def _parent(self, request: FinishedRequest) -> Context:
        carrier = {
            name.decode(): value.decode("latin-1")
            for name, value in request.headers
            if name in _CONTEXT_HEADERS
        }
        return self._propagator.extract(carrier, context=Context())

    def _add_phases(
        self, span: Span, started: float, answer: AnswerRecord, clock: "_WallClock"
    ) -> None:
        context = trace.set_span_in_context(span, Context())
        borders = [started, answer.engine_started, answer.first_token, answer.ended]
        for name, begin, end in zip(
            ("queue", "prefill", "decode"), borders[:-1], borders[1:], strict=True
        ):
            if begin and end:
                begin, end = max(begin, started), max(end, started)
                phase = self._tracer.start_span(name, context, start_time=clock.at(begin))
                phase.end(clock.at(max(begin, end)))


class _WallClock:
    """Converts monotonic times to nanoseconds since 1970, from one reading of both clocks."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def at(self, monotonic: float) -> int:
        return self._offset + round(monotonic * 1e9)


def start(settings: OtelSettings) -> OtelTracer:
    """A tracer that sends to the collector. The exporter's own variables, such as
    OTEL_EXPORTER_OTLP_HEADERS, apply too."""
    base = settings.endpoint.rstrip("/")
    endpoint = base if base.endswith(_TRACES_PATH) else base + _TRACES_PATH
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)
    return OtelTracer(settings, BatchSpanProcessor(exporter))


def _attributes(request: FinishedRequest) -> Mapping[str, Any]:
    request_record = request.request_record
    attributes: dict[str, Any] = {
        "http.request.method": request.method,
        "http.route": request.endpoint,
        "gen_ai.operation.name": request.operation,
        "gen_ai.provider.name": PROVIDER,
        "lockgate.request_id": request_record.request_id,
        **request_record.attributes,
    }
    if request_record.status:
        attributes["http.response.status_code"] = request_record.status
    if error := _error(request_record):
        attributes["error.type"] = error
    if request_record.answer is not None:
        attributes |= _answer_attributes(request_record.model_name, request_record.answer)
    return attributes


def _answer_attributes(model_name: str, answer: AnswerRecord) -> dict[str, Any]:
    return {
        "gen_ai.response.model": model_name,
        "gen_ai.response.finish_reasons": list(answer.finish_reasons),
        "gen_ai.usage.input_tokens": answer.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": answer.cached_tokens,
        "gen_ai.usage.output_tokens": answer.completion_tokens,
    }


def _error(request_record: RequestRecord) -> str:
    if request_record.error_code:
        return request_record.error_code
    answer = request_record.answer
    left = not request_record.status or (answer is not None and answer.outcome == "aborted")
    return "client_disconnected" if left else ""


def _status(request_record: RequestRecord) -> Status:
    """The span's status. Only the server's own errors count: a client's mistake is not an error of
    a server span."""
    failed = request_record.answer is not None and request_record.answer.outcome == "failed"
    if failed or request_record.status >= 500:
        return Status(StatusCode.ERROR, request_record.error_code)
    return Status(StatusCode.UNSET)
