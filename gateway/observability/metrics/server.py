"""All counters of one server. Counting is plain arithmetic; `exposition` makes the text."""

from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

from gateway.errors import INTERNAL_ERROR, TABLE
from gateway.observability.metrics.bounded_names import BoundedNames
from gateway.observability.metrics.histogram import (
    GENAI_DURATION_BUCKETS,
    GENAI_FIRST_TOKEN_BUCKETS,
    GENAI_OUTPUT_TOKEN_BUCKETS,
    Histogram,
)
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
    *("rate_limit_exceeded", "server_draining", "invalid_api_key", "permission_denied"),
    *("host_not_allowed", "origin_not_allowed", "model_not_allowed", "priority_not_allowed"),
    *("body_timeout", "request_timeout"),
)
"""Error codes of refused requests: overload, limits, permissions. Exported as 0 from the start."""

FAILURES = (
    (500, INTERNAL_ERROR),
    *((status, code) for _, status, _, code in TABLE if status >= 500 and status != 503 and code),
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
    """Attributes of OpenTelemetry's GenAI metrics. `error` is empty for a success."""

    operation: str
    model_name: str
    error: str = ""


class KeyUsage:
    """The usage of one key."""

    __slots__ = ("generation_tokens", "prompt_tokens", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0


class Metrics:
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
        self.rejections: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.http_requests: Counter[HttpLabels] = Counter()
        self.genai_durations: dict[GenAiLabels, Histogram] = {}
        self.genai_first_tokens: dict[GenAiLabels, Histogram] = {}
        self.genai_output_tokens: dict[GenAiLabels, Histogram] = {}
        self.keys: dict[str, KeyUsage] = {}
        self._max_keys = max_keys
        self._operations = operations
        self._key_names = BoundedNames(max_keys)
        self._errors = BoundedNames(MAX_ERROR_CODES)
        self._begin_at_zero(self._operations, "", EARLY_RESULTS)
        self._begin_at_zero(endpoints, "", [(500, INTERNAL_ERROR)])

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
        if self._max_keys and request_record.key_name:
            self._count_key(request_record)

    def _count_genai(
        self, request_record: RequestRecord, operation: str, error: str, seconds: float
    ) -> None:
        labels = GenAiLabels(operation, request_record.model_name, error)
        _at(self.genai_durations, labels, GENAI_DURATION_BUCKETS).observe(seconds)
        answer = request_record.answer
        if answer is None or answer.outcome != "completed" or not answer.first_token:
            return
        first_token = answer.first_token - request_record.started
        _at(self.genai_first_tokens, labels, GENAI_FIRST_TOKEN_BUCKETS).observe(first_token)
        if (per_token := answer.seconds_per_output_token()) is not None:
            _at(self.genai_output_tokens, labels, GENAI_OUTPUT_TOKEN_BUCKETS).observe(per_token)

    def _count_key(self, request_record: RequestRecord) -> None:
        usage = self.keys.setdefault(self._key_names.name(request_record.key_name), KeyUsage())
        usage.requests += 1
        if request_record.answer is not None:
            usage.prompt_tokens += request_record.answer.prompt_tokens
            usage.generation_tokens += request_record.answer.completion_tokens


def _error_of(request_record: RequestRecord, status: int) -> str:
    """`error.type` of a request that ended without an error envelope."""
    if status == CLIENT_LEFT or (
        request_record.answer and request_record.answer.outcome == "aborted"
    ):
        return "client_disconnected"
    return str(status) if status >= 400 else ""


def _at(
    histograms: dict[GenAiLabels, Histogram], labels: GenAiLabels, buckets: tuple[float, ...]
) -> Histogram:
    found = histograms.get(labels)
    if found is None:
        found = histograms[labels] = Histogram(buckets)
    return found
