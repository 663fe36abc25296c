"""Traces: what a span says, that they reach a collector, and that a dead one hurts nobody."""

import gzip
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from gateway.observability.answer_record import AnswerRecord
from gateway.observability.finished_request import FinishedRequest
from gateway.observability.otel import OtelTracer
from gateway.observability.request_record import RequestRecord
from gateway.observability.tracing import start_tracer
from gateway.settings.schema import OtelSettings, Settings
from runtime.errors import SetupError
from tests.kit.chat.answers import CHAT
from tests.kit.serving import MODEL, running_server, scripted_settings, wait_for

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


def traceparent(*, sampled: bool) -> str:
    return f"00-{TRACE_ID}-{PARENT_ID}-0{int(sampled)}"


def answered(outcome: str = "completed") -> RequestRecord:
    request_record = RequestRecord([])
    request_record.model_name, request_record.status = MODEL, 200
    request_record.attributes = {"gen_ai.request.model": MODEL, "gen_ai.request.max_tokens": 9}
    request_record.started -= 10
    answer = request_record.answer = AnswerRecord(1)
    answer.engine_started = request_record.started + 1
    answer.first_token = request_record.started + 3
    answer.ended = request_record.started + 7
    answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens = 11, 5, 2
    answer.finish_reasons = ["stop"]
    answer.outcome = outcome
    return request_record


def spans_of(request_record: RequestRecord, header: str = "", ratio: float = 1.0):
    exporter = InMemorySpanExporter()
    tracer = OtelTracer(OtelSettings(sample_ratio=ratio), SimpleSpanProcessor(exporter))
    headers = [(b"traceparent", header.encode())] if header else []
    tracer.record(FinishedRequest(request_record, "POST", CHAT, "chat", headers, 8.0))
    tracer.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_span_has_its_phases_and_attributes():
    spans = spans_of(answered())
    whole = spans[f"chat {MODEL}"]

    assert set(spans) == {f"chat {MODEL}", "queue", "prefill", "decode"}
    seconds = {name: (span.end_time - span.start_time) / 1e9 for name, span in spans.items()}
    expected = {f"chat {MODEL}": 8, "queue": 1, "prefill": 2, "decode": 4}
    assert seconds == pytest.approx(expected, abs=1e-3)
    assert abs(whole.end_time / 1e9 - (time.time() - 2)) < 60
    for phase in ("queue", "prefill", "decode"):
        assert spans[phase].parent.span_id == whole.context.span_id
    assert (whole.kind, whole.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)
    attributes = dict(whole.attributes)
    assert attributes.pop("lockgate.request_id").startswith("req_")
    assert attributes == {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "lockgate",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.output_tokens": 5,
    }


def test_failures_are_errors_and_a_client_that_leaves_is_none():
    failed, left = answered("failed"), answered("aborted")
    failed.error_code = "engine_error"
    failed_span, left_span = (spans_of(item)[f"chat {MODEL}"] for item in (failed, left))
    assert failed_span.status.status_code == StatusCode.ERROR
    assert failed_span.attributes["error.type"] == "engine_error"
    assert left_span.status.status_code == StatusCode.UNSET
    assert left_span.attributes["error.type"] == "client_disconnected"


def test_a_refused_request_has_no_phases():
    request_record = RequestRecord([])
    request_record.status, request_record.error_code = 503, "engine_unavailable"
    [span] = spans_of(request_record).values()
    assert (span.name, span.status.status_code) == ("chat", StatusCode.ERROR)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("sampled", [False, True])
def test_the_clients_trace_decides(ratio, sampled):
    spans = spans_of(answered(), traceparent(sampled=sampled), ratio)
    assert bool(spans) == sampled
    for span in spans.values():
        assert f"{span.context.trace_id:032x}" == TRACE_ID
    if sampled:
        assert f"{spans[f'chat {MODEL}'].parent.span_id:016x}" == PARENT_ID


def test_without_a_trace_of_the_clients_the_ratio_decides():
    assert spans_of(answered(), ratio=0.0) == {}
    assert len(spans_of(answered(), "not a traceparent", 1.0)) == 4


class Collector(http.server.ThreadingHTTPServer):
    """Takes what is exported to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, ExportTraceServiceRequest]] = []

    @property
    def spans(self):
        return [
            span
            for _, request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, Collector)
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def traced(endpoint: str) -> Settings:
    return msgspec.structs.replace(scripted_settings(), otel=OtelSettings(endpoint=endpoint))


def test_spans_reach_a_collector(collector, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with running_server(traced(f"http://127.0.0.1:{collector.server_port}")) as server:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "secret"}]}
        body |= {"max_tokens": 5, "temperature": 0.5, "stream": True}
        headers = {"traceparent": traceparent(sampled=True)}
        response = server.http.post(CHAT, json=body, headers=headers)
        assert response.status_code == 200
        wait_for(lambda: len(collector.spans) == 4)

    [whole] = [span for span in collector.spans if span.name == f"chat {MODEL}"]
    values = {item.key: item.value for item in whole.attributes}
    assert {path for path, _ in collector.received} == {"/v1/traces"}
    assert whole.trace_id.hex() == TRACE_ID
    assert values["gen_ai.usage.output_tokens"].int_value == 5
    assert values["gen_ai.request.temperature"].double_value == 0.5
    assert values["lockgate.request_id"].string_value == response.headers["x-request-id"]
    assert "secret" not in str(collector.received)


@pytest.mark.slow
def test_a_dead_collector_touches_no_request(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setattr("gateway.observability.otel.EXPORT_SECONDS", 1.0)
    with running_server(traced("http://127.0.0.1:9")) as server:
        for _ in range(5):
            assert server.chat(max_tokens=3).status_code == 200
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 15


def test_the_package_is_imported_only_when_traces_are_on():
    program = "import sys, gateway.app; print([m for m in sys.modules if 'opentelemetry' in m])"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
    assert start_tracer(OtelSettings()) is None


def test_an_endpoint_that_is_no_url_is_refused_by_name():
    with pytest.raises(SetupError, match=r"^otel\.endpoint: 'collector:4318' is no URL"):
        start_tracer(OtelSettings(endpoint="collector:4318"))
