"""Counters of one model: its answers, and the steps of its engine."""

from collections import Counter
from typing import get_args

from gateway.chat.finish import FinishReason
from gateway.observability.metrics.histogram import BATCH_BUCKETS, TOKEN_BUCKETS, Histogram
from runtime.messages.engine import EngineUsage
from runtime.messages.wire import StepOutput


class EngineMetrics:
    """Sums over the steps of an engine and of the engines that replaced it after a death."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generation_tokens = 0
        self.preempted = 0
        self.resumed = 0
        self.draft_tokens = 0
        self.accepted_tokens = 0
        self.step_seconds = Histogram()
        self.step_tokens = Histogram(TOKEN_BUCKETS)
        self.batch_size = Histogram(BATCH_BUCKETS)
        self.grammar_seconds = Histogram()

    def on_step(self, step: StepOutput) -> None:
        """Once per step; a heartbeat changes nothing."""
        stats = step.stats
        usage = stats.usage
        self.prompt_tokens += usage.num_prompt_tokens
        self.cached_tokens += usage.num_cached_tokens
        self.generation_tokens += usage.num_generation_tokens
        self.preempted += usage.num_preempted
        self.resumed += stats.num_resumed
        self.draft_tokens += usage.num_draft_tokens
        self.accepted_tokens += usage.num_accepted_tokens
        if stats.step_seconds:
            self.step_seconds.observe(stats.step_seconds)
            self._observe_batch(usage, len(step.outputs))
        for seconds in step.preparation_seconds:
            self.grammar_seconds.observe(seconds)

    def _observe_batch(self, usage: EngineUsage, num_outputs: int) -> None:
        if num_tokens := usage.num_prompt_tokens + usage.num_generation_tokens:
            self.step_tokens.observe(num_tokens)
        if num_outputs:
            self.batch_size.observe(num_outputs)


class ModelMetrics:
    """Counters of one model's answers. Single-threaded.

    Tokens are counted as they arrive. A completed answer adds exactly its `usage`. An aborted or
    failed answer adds its prompt if the engine has begun it, and the tokens that the gateway had
    received. `engine` counts all tokens that the engine computed, for whatever reason.
    """

    def __init__(self) -> None:
        self.engine = EngineMetrics()
        self.time_to_first_token = Histogram()
        self.inter_token_latency = Histogram()
        self.time_per_output_token = Histogram()
        self.e2e_latency = Histogram()
        self.queue_time = Histogram()
        self.prefill_time = Histogram()
        self.decode_time = Histogram()
        self.inference_time = Histogram()
        self.request_prompt_tokens = Histogram(TOKEN_BUCKETS)
        self.request_generation_tokens = Histogram(TOKEN_BUCKETS)
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.cached_tokens = 0
        self.aborted = 0
        self.failed = 0
        self.successes: Counter[str] = Counter(dict.fromkeys(get_args(FinishReason), 0))
