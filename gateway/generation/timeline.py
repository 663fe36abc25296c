"""Times and counts one answer, or the vectors of one request, while they are made."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from gateway.generation.assembler import Assembler
from gateway.observability.answer_record import AnswerRecord, Outcome
from gateway.observability.metrics.model import ModelMetrics


class _Outcome:
    """Records how the work on a request ended. The first recorded end counts."""

    __slots__ = ("_metrics", "_started", "record")

    def __init__(self, metrics: ModelMetrics, started: float, num_choices: int) -> None:
        self.record = AnswerRecord(num_choices)
        self._metrics = metrics
        self._started = started

    def abort(self) -> None:
        """The client left before the end, or the server stopped."""
        if self._settle("aborted"):
            self._metrics.aborted.value += 1

    def fail(self) -> None:
        """An error ended the work."""
        if self._settle("failed"):
            self._metrics.failed.value += 1

    def leave(self, error: BaseException | None) -> None:
        """Records an abort, or a failure if an error ended the work."""
        if isinstance(error, Exception):
            self.fail()
        else:
            self.abort()

    def _settle(self, outcome: Outcome) -> bool:
        """Records the outcome. True if this is the first recorded end."""
        if self.record.outcome:
            return False
        self.record.outcome = outcome
        self.record.ended = time.monotonic()
        self._count()
        if self.record.on_end is not None:
            self.record.on_end(self.record)
        return True

    def _count(self) -> None:
        """Puts the tokens into the record, whose outcome is known."""
        raise NotImplementedError


class EmbeddingTimeline(_Outcome):
    """Counts the tokens of one embedding request. A `with` block that is left without `finish`
    records an aborted request, or a failed one if an error leaves the block. `started` is when the
    request arrived, on the monotonic clock."""

    def __init__(
        self, metrics: ModelMetrics, started: float, inputs: Sequence[Sequence[int]]
    ) -> None:
        super().__init__(metrics, started, len(inputs))
        self.num_tokens = sum(map(len, inputs))

    @property
    def num_used(self) -> int:
        """Tokens that the client is charged: all of them, or none if it got no vectors."""
        return self.record.prompt_tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self.leave(error)

    def finish(self) -> None:
        """All vectors are there."""
        if not self._settle("completed"):
            return
        self._metrics.prompt_tokens.value += self.num_tokens
        self._metrics.request_prompt_tokens.observe(self.num_tokens)
        self._metrics.e2e_latency.observe(self.record.ended - self._started)

    def _count(self) -> None:
        if self.record.outcome == "completed":
            self.record.prompt_tokens = self.num_tokens


class Timeline(_Outcome):
    """Call `delta` after every delta, then `finish` when the answer is complete.

    An answer that does not become complete ends with `abort` or `fail`. `started` is when the
    request arrived, on the monotonic clock.
    """

    __slots__ = ("_assembler", "_last", "_num_gaps", "_num_seen")

    def __init__(self, metrics: ModelMetrics, started: float, assembler: Assembler) -> None:
        super().__init__(metrics, started, assembler.num_choices)
        self._assembler = assembler
        self._last = 0.0
        self._num_seen = 0
        self._num_gaps = 0

    def delta(self, num_outputs: int) -> None:
        """Counts inter-token latencies, after `assembler.push`. A delta of k tokens is k equal
        gaps. A choice's first token has no gap before it. Gaps within the delta that carries the
        answer's first token are 0.
        """
        assembler, metrics = self._assembler, self._metrics
        if assembler.num_prompt_tokens != self.record.prompt_tokens:
            metrics.prompt_tokens.value += assembler.num_prompt_tokens - self.record.prompt_tokens
            self.record.prompt_tokens = assembler.num_prompt_tokens
        num_completion_tokens = assembler.num_completion_tokens
        num_tokens = num_completion_tokens - self._num_seen
        if not num_tokens:
            return
        now = time.monotonic()
        metrics.generation_tokens.value += num_tokens
        if not self._num_seen:
            self._first_token(now)
            self._last = now
        num_gaps = num_completion_tokens - assembler.num_first_tokens - self._num_gaps
        if num_gaps:
            gap = (now - self._last) * min(num_outputs, num_tokens) / num_tokens
            metrics.inter_token_latency.observe(gap, num_gaps)
        self._last = now
        self._num_seen = num_completion_tokens
        self._num_gaps += num_gaps

    def finish(self) -> None:
        """The answer is complete."""
        if not self._settle("completed"):
            return
        metrics, record = self._metrics, self.record
        metrics.e2e_latency.observe(record.ended - self._started)
        metrics.request_prompt_tokens.observe(record.prompt_tokens)
        metrics.request_generation_tokens.observe(record.completion_tokens)
        for reason in record.finish_reasons:
            metrics.successes[reason] += 1
        if record.first_token:
            metrics.decode_time.observe(record.decode_seconds())
        if record.engine_started:
            metrics.inference_time.observe(record.ended - record.engine_started)
        if (seconds := record.seconds_per_output_token()) is not None:
            metrics.time_per_output_token.observe(seconds)

    def _first_token(self, now: float) -> None:
        metrics, record = self._metrics, self.record
        record.first_token = now
        metrics.time_to_first_token.observe(now - self._started)
        seconds_queued = self._assembler.seconds_queued
        if seconds_queued is not None:
            record.engine_started = self._started + seconds_queued
            metrics.queue_time.observe(seconds_queued)
            metrics.prefill_time.observe(max(now - record.engine_started, 0.0))

    def _count(self) -> None:
        record, usage = self.record, self._assembler.usage_so_far()
        record.cached_tokens = usage.prompt_tokens_details.cached_tokens
        record.completion_tokens = self._num_seen
        record.reasoning_tokens = usage.completion_tokens_details.reasoning_tokens
        record.finish_reasons = self._assembler.finish_reasons
        self._metrics.cached_tokens.value += record.cached_tokens
