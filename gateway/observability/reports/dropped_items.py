"""Tells how much of a conversation was too long to be read: in a header and in the log."""

import structlog

from gateway.observability.request_record import RequestRecord

log = structlog.get_logger(__name__)


def report_dropped(num_dropped: int, request_record: RequestRecord) -> None:
    """Reports that the oldest items of a conversation are not in the prompt. Call it before the
    response begins."""
    if num_dropped:
        request_record.num_dropped += num_dropped
        log.info(
            "conversation_truncated",
            request_id=request_record.request_id,
            num_dropped_items=num_dropped,
        )
