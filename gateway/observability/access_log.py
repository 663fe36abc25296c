"""One log line for each finished request, without any text of prompts or answers."""

import structlog

from gateway.observability.answer_record import AnswerRecord
from gateway.observability.request_record import RequestRecord

log = structlog.get_logger(__name__)

PROBES = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""Paths that machines poll every few seconds: their lines have the level "debug"."""


def log_request(request_record: RequestRecord, method: str, endpoint: str, seconds: float) -> None:
    """Logs one request, which took `seconds`. Times are in milliseconds; `ttft_ms` is the time to
    the first token. `status` 0 means that the client left before the response began."""
    answer = request_record.answer
    write = log.debug if endpoint in PROBES else log.info
    write(
        "request",
        request_id=request_record.request_id,
        **({"client_request_id": known} if (known := request_record.client_request_id) else {}),
        method=method,
        endpoint=endpoint,
        status=request_record.status,
        duration_ms=_ms(seconds),
        **({"model": request_record.model_name} if request_record.model_name else {}),
        **({"error": request_record.error_code} if request_record.error_code else {}),
        **({} if answer is None else _of_answer(answer, request_record.started)),
    )


def _of_answer(answer: AnswerRecord, started: float) -> dict[str, object]:
    fields: dict[str, object] = {
        "outcome": answer.outcome,
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "completion_tokens": answer.completion_tokens,
        "finish_reasons": list(answer.finish_reasons),
    }
    if answer.engine_started:
        fields["queue_ms"] = _ms(max(answer.engine_started - started, 0.0))
    if answer.first_token:
        fields["ttft_ms"] = _ms(answer.first_token - started)
        fields["decode_ms"] = _ms(answer.decode_seconds())
    return fields


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
