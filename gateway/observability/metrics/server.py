"""All counters of one server. Counting is plain arithmetic; `exposition` makes the text."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from gateway.errors import INTERNAL_ERROR, TABLE
from gateway.observability.metrics.bounded_names import BoundedNames
from gateway.observability.metrics.counter import LabelledCounter, Reported, ReportedBy
from gateway.observability.metrics.histogram import (
    GENAI_DURATION_BUCKETS,
    GENAI_FIRST_TOKEN_BUCKETS,
    GENAI_OUTPUT_TOKEN_BUCKETS,
    LabelledHistogram,
)
from gateway.observability.metrics.instrument import InstrumentGroup
from gateway.observability.metrics.model import ModelMetrics
from gateway.observability.request_record import RequestRecord

MAX_ERROR_CODES = 64
"""Values of the label `error`; there are fewer in the code."""

CLIENT_LEFT = 499
"""Metrics status of a request whose client left before the response began."""

REFUSALS = (429, 503)
"""Statuses of refused requests; the error's code says why."""

PROVIDER = "lockgate"
"""`gen_ai.provider.name`: the server of the model."""

REASONS = (
    *("engine_overloaded", "engine_unavailable", "deadline_exceeded", "gpu_memory_pressure"),
    *("rate_limit_exceeded", "insufficient_quota", "server_draining"),
    *("invalid_api_key", "permission_denied"),
    *("host_not_allowed", "origin_not_allowed", "priority_not_allowed"),
    *("body_timeout", "request_timeout", "gateway_overloaded"),
)
"""Error codes of refused requests: overload, limits, permissions. Exported as 0 from the start."""

FAILURES = (
    (500, INTERNAL_ERROR),
    *(
        (status, code)
        for _, status, kind, code in TABLE
        if kind == "server_error" and status != 503 and code
    ),
)
"""Status and code of the server's own errors, refusals excluded."""

EARLY_RESULTS = ((500, INTERNAL_ERROR), (429, "rate_limit_exceeded"), (503, "server_draining"))
"""Results of requests whose model is not known yet."""

RESULTS = (
    *((200, ""), (CLIENT_LEFT, ""), (429, "engine_overloaded")),
    *((503, code) for code in ("engine_unavailable", "deadline_exceeded", "gpu_memory_pressure")),
    *FAILURES,
    *((200, code) for _, code in FAILURES),  # in the middle of a stream
)
"""Results of requests to a model, client mistakes excluded. Their series are exported as 0 from the
start: a counter that begins at 1 shows no increase, so an alert would miss the first error."""


class HttpLabels(Struct, frozen=True):
    """Labels of HTTP requests. `error` is the code of the error envelope, or empty."""

    endpoint: str
    model_name: str
    status: int
    error: str


class GenAiLabels(Struct, frozen=True):
    """Attributes of OpenTelemetry's GenAI metrics."""

    operation: str
    provider: str
    request_model: str
    response_model: str


class GenAiResult(GenAiLabels, frozen=True):
    """Attributes of a finished request. `error` is empty for a success."""

    error: str


GENAI = (
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    "gen_ai_response_model",
)
"""Prometheus' names of the fields of `GenAiLabels`."""


class Metrics(InstrumentGroup):
    """Counters of each model, and counters of HTTP. Single-threaded.

    `max_keys` is how many API keys get their own label; the others become "other". With 0, nothing
    is counted by key. `endpoints` are the paths of the application's routes. `operations` has
    `gen_ai.operation.name` for the paths that use the engine.
    """

    def __init__(
        self,
        max_keys: int = 0,
        endpoints: Iterable[str] = (),
        operations: Mapping[str, str] = {},
    ) -> None:
        self.models: dict[str, ModelMetrics] = {}
        self._hold_requests()
        self._hold_genai()
        self._hold_keys()
        self._operations = operations
        self._key_names = BoundedNames(max_keys)
        self._errors = BoundedNames(MAX_ERROR_CODES)
        self._begin_at_zero(self._operations, "", EARLY_RESULTS)
        self._begin_at_zero(endpoints, "", [(500, INTERNAL_ERROR)])

    def set_max_keys(self, max_keys: int) -> None:
        """Changes how many keys get their own label."""
        self._key_names.limit = max_keys

    def _hold_requests(self) -> None:
        self.rejections: LabelledCounter[str] = LabelledCounter(
            "lockgate_requests_rejected",
            "Requests that the server would not have, by the code of the error: 429 and 503, and"
            " those that keys, limits of time and web origins refuse.",
            ("reason",),
            REASONS,
        )
        self.http_requests: LabelledCounter[HttpLabels] = LabelledCounter(
            "lockgate_http_requests",
            "HTTP requests by route; status 499 is a client that left.",
            ("endpoint", "model_name", "status", "error"),
        )
        self.log_lines_lost = Reported(
            "lockgate_log_lines_lost",
            "Lines of the log that were dropped, because nobody read them or the disk was full.",
        )
        self.store_lost = Reported(
            "lockgate_store_records_lost",
            "Records that were to be stored after an answer, and could not be.",
        )
        self.store_waiting = Reported(
            "lockgate_store_changes_waiting", "Changes that are not stored yet.", "gauge"
        )
        self.background = Reported(
            "lockgate_background_responses",
            "Responses in the background that wait, are made, or are not stored yet.",
            "gauge",
        )
        self.store_swept = ReportedBy(
            "lockgate_store_swept",
            "Stored objects that were deleted for their age, or because all took too much.",
            "reason",
            ("age", "size"),
        )

    def _hold_genai(self) -> None:
        self.genai_durations: LabelledHistogram[GenAiResult] = LabelledHistogram(
            "gen_ai_server_request_duration_seconds",
            "gen_ai.server.request.duration: time to answer a request, failed ones included.",
            GENAI_DURATION_BUCKETS,
            (*GENAI, "error_type"),
        )
        self.genai_first_tokens: LabelledHistogram[GenAiLabels] = LabelledHistogram(
            "gen_ai_server_time_to_first_token_seconds",
            "gen_ai.server.time_to_first_token: of completed answers.",
            GENAI_FIRST_TOKEN_BUCKETS,
            GENAI,
        )
        self.genai_output_tokens: LabelledHistogram[GenAiLabels] = LabelledHistogram(
            "gen_ai_server_time_per_output_token_seconds",
            "gen_ai.server.time_per_output_token: after the first, of completed answers.",
            GENAI_OUTPUT_TOKEN_BUCKETS,
            GENAI,
        )

    def _hold_keys(self) -> None:
        self.key_requests: LabelledCounter[str] = LabelledCounter(
            "lockgate_key_requests", "HTTP requests by key.", ("key",)
        )
        self.key_prompt_tokens: LabelledCounter[str] = LabelledCounter(
            "lockgate_key_prompt_tokens", "Prompt tokens by key.", ("key",)
        )
        self.key_generation_tokens: LabelledCounter[str] = LabelledCounter(
            "lockgate_key_generation_tokens", "Generated tokens by key.", ("key",)
        )

    def of(self, model_name: str) -> ModelMetrics:
        """The counters of one model. Only for names of served models: an entry is never removed."""
        found = self.models.get(model_name)
        if found is None:
            found = self.models[model_name] = ModelMetrics()
            self._begin_at_zero(self._operations, model_name, RESULTS)
        return found

    def _begin_at_zero(
        self, endpoints: Iterable[str], model_name: str, results: Iterable[tuple[int, str]]
    ) -> None:
        for endpoint in endpoints:
            for status, error in results:
                label = self._errors.name(error) if error else ""
                self.http_requests[HttpLabels(endpoint, model_name, status, label)] += 0

    def on_response(self, request_record: RequestRecord, endpoint: str, seconds: float) -> None:
        """Called once per HTTP request, when it is over, `seconds` after it arrived. `endpoint` is
        the route's path, which bounds the number of labels."""
        status = request_record.status or CLIENT_LEFT
        error = self._errors.name(request_record.error_code) if request_record.error_code else ""
        self.http_requests[HttpLabels(endpoint, request_record.model_name, status, error)] += 1
        if error and (status in REFUSALS or error in REASONS):
            self.rejections[error] += 1
        if (operation := self._operations.get(endpoint)) is not None:
            self._count_genai(
                request_record, operation, error or _error_of(request_record, status), seconds
            )
        if self._key_names.limit and request_record.key_name:
            self._count_key(request_record)

    def _count_genai(
        self, request_record: RequestRecord, operation: str, error: str, seconds: float
    ) -> None:
        model = request_record.model_name
        result = GenAiResult(operation, PROVIDER, model, model, error)
        self.genai_durations[result].observe(seconds)
        answer = request_record.answer
        if answer is None or answer.outcome != "completed" or not answer.first_token:
            return
        labels = GenAiLabels(operation, PROVIDER, model, model)
        self.genai_first_tokens[labels].observe(answer.first_token - request_record.started)
        if (per_token := answer.seconds_per_output_token()) is not None:
            self.genai_output_tokens[labels].observe(per_token)

    def _count_key(self, request_record: RequestRecord) -> None:
        key, answer = self._key_names.name(request_record.key_name), request_record.answer
        answers = [*request_record.earlier_answers, *([answer] if answer else ())]
        self.key_requests[key] += 1
        self.key_prompt_tokens[key] += sum(each.prompt_tokens for each in answers)
        self.key_generation_tokens[key] += sum(each.completion_tokens for each in answers)


def _error_of(request_record: RequestRecord, status: int) -> str:
    """`error.type` of a request that ended without an error envelope."""
    if status == CLIENT_LEFT or (
        request_record.answer and request_record.answer.outcome == "aborted"
    ):
        return "client_disconnected"
    return str(status) if status >= 400 else ""
