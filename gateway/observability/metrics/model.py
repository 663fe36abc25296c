"""Counters of one model: its answers, and the steps of its engine."""

from typing import get_args

from gateway.chat.finish import FinishReason
from gateway.observability.metrics.counter import Counter, LabelledCounter, Total
from gateway.observability.metrics.histogram import BATCH_BUCKETS, TOKEN_BUCKETS, Histogram
from gateway.observability.metrics.instrument import MODEL, InstrumentGroup
from runtime.messages.engine import DiskUsage
from runtime.messages.wire import StepOutput


class DiskMetrics(InstrumentGroup):
    """Sums over what engines report of their prefixes on disk."""

    def __init__(self) -> None:
        self.hits = Counter(
            "lockgate_prefix_cache_disk_hits", "Prompt tokens that were read back from the disk."
        )
        self.read_bytes = Counter(
            "lockgate_prefix_cache_disk_read_bytes", "Keys and values read back from the disk."
        )
        self.written_bytes = Counter(
            "lockgate_prefix_cache_disk_written_bytes", "Keys and values written to the disk."
        )
        self.dropped = Counter(
            "lockgate_prefix_cache_disk_dropped",
            "Blocks that were not written, because the disk was too slow or had refused others.",
        )
        self.errors = Counter(
            "lockgate_prefix_cache_disk_errors",
            "Blocks that the disk refused to write or read, or had damaged.",
        )

    def on_step(self, usage: DiskUsage) -> None:
        """Once per step."""
        self.hits.value += usage.num_hit_tokens
        self.read_bytes.value += usage.num_read_bytes
        self.written_bytes.value += usage.num_written_bytes
        self.dropped.value += usage.num_dropped
        self.errors.value += usage.num_errors


class EngineMetrics(InstrumentGroup):
    """Sums over the steps of an engine and of the engines that replaced it after a death.

    `num_resumed` counts sequences that went on after they had been preempted.
    """

    def __init__(self) -> None:
        self.num_resumed = 0
        self._hold_tokens()
        self.preemptions = Counter("lockgate_num_preemptions", "Sequences sent back to the queue.")
        self.draft_tokens = Counter(
            "lockgate_spec_decode_num_draft_tokens", "Tokens drafted by speculation."
        )
        self.accepted_tokens = Counter(
            "lockgate_spec_decode_num_accepted_tokens", "Those that the model accepted."
        )
        self.killed_grammars = Counter(
            "lockgate_grammar_compilations_killed",
            "Compilations of grammars that took too much, or that nobody waited for any more.",
        )
        self.disk = DiskMetrics()
        self._hold_steps()

    def _hold_tokens(self) -> None:
        self.prompt_tokens = Counter("lockgate_engine_prompt_tokens", "Prompt tokens computed.")
        self.generation_tokens = Counter("lockgate_engine_generation_tokens", "Tokens sampled.")
        hits = Counter("lockgate_prefix_cache_hits", "Those that were found there.")
        self.prefix_queries = Total(
            "lockgate_prefix_cache_queries",
            "Prompt tokens looked up in the KV cache.",
            self.prompt_tokens,
            hits,
        )
        self.prefix_hits = hits

    def _hold_steps(self) -> None:
        self.step_seconds = Histogram(
            "lockgate_engine_step_seconds", "Time of one step of the engine."
        )
        self.step_tokens = Histogram(
            "lockgate_iteration_tokens_total", "Tokens computed in one step.", TOKEN_BUCKETS
        )
        self.batch_size = Histogram(
            "lockgate_engine_batch_size", "Sequences that got tokens in one step.", BATCH_BUCKETS
        )
        self.grammar_seconds = Histogram(
            "lockgate_grammar_compilation_time_seconds",
            "Time that a request waited for its grammar to compile.",
        )

    def on_step(self, step: StepOutput) -> None:
        """Once per step; a heartbeat changes nothing."""
        stats = step.stats
        usage = stats.usage
        self.num_resumed += stats.num_resumed
        self.prompt_tokens.value += usage.num_prompt_tokens
        self.generation_tokens.value += usage.num_generation_tokens
        self.prefix_hits.value += usage.num_cached_tokens
        self.preemptions.value += usage.num_preempted
        self.draft_tokens.value += usage.num_draft_tokens
        self.accepted_tokens.value += usage.num_accepted_tokens
        self.killed_grammars.value += usage.num_trials_killed
        self.disk.on_step(usage.disk)
        if seconds := stats.step_seconds:
            self.step_seconds.observe(seconds)
            if num_tokens := usage.num_prompt_tokens + usage.num_generation_tokens:
                self.step_tokens.observe(num_tokens)
            if num_outputs := len(step.outputs):
                self.batch_size.observe(num_outputs)
        for seconds in step.preparation_seconds:
            self.grammar_seconds.observe(seconds)


class ModelMetrics(InstrumentGroup):
    """Counters of one model's answers. Single-threaded.

    Tokens are counted as they arrive. A completed answer adds exactly its `usage`. An aborted or
    failed answer adds its prompt if the engine has begun it, and the tokens that the gateway had
    received. `engine` counts all tokens that the engine computed, for whatever reason.
    """

    def __init__(self) -> None:
        self._hold_times()
        self._hold_tokens()
        self.engine = EngineMetrics()
        self._hold_ends()

    def _hold_times(self) -> None:
        self.time_to_first_token = Histogram(
            "lockgate_time_to_first_token_seconds", "Request received to first token."
        )
        self.inter_token_latency = Histogram(
            "lockgate_inter_token_latency_seconds", "From one token of a choice to its next."
        )
        self.time_per_output_token = Histogram(
            "lockgate_request_time_per_output_token_seconds",
            "Mean time of a token after the first, by answer.",
        )
        self.e2e_latency = Histogram(
            "lockgate_e2e_request_latency_seconds", "Request received to answer complete."
        )
        self.queue_time = Histogram(
            "lockgate_request_queue_time_seconds", "Request received to let into the engine."
        )
        self.prefill_time = Histogram(
            "lockgate_request_prefill_time_seconds", "Let into the engine to first token."
        )
        self.decode_time = Histogram(
            "lockgate_request_decode_time_seconds", "First token to answer complete."
        )
        self.inference_time = Histogram(
            "lockgate_request_inference_time_seconds", "Let into the engine to complete."
        )

    def _hold_tokens(self) -> None:
        self.request_prompt_tokens = Histogram(
            "lockgate_request_prompt_tokens", "Prompt tokens of an answer.", TOKEN_BUCKETS
        )
        self.request_generation_tokens = Histogram(
            "lockgate_request_generation_tokens", "Generated tokens of an answer.", TOKEN_BUCKETS
        )
        self.prompt_tokens = Counter(
            "lockgate_prompt_tokens", "Prompt tokens of answers that have begun."
        )
        self.generation_tokens = Counter(
            "lockgate_generation_tokens", "Tokens of answers, as they come."
        )
        self.cached_tokens = Counter(
            "lockgate_prompt_tokens_cached", "Prompt tokens of answers found in the cache."
        )

    def _hold_ends(self) -> None:
        self.aborted = Counter(
            "lockgate_requests_aborted", "Answers whose client left before the end."
        )
        self.failed = Counter("lockgate_requests_failed", "Answers that an error ended.")
        self.successes: LabelledCounter[str] = LabelledCounter(
            "lockgate_request_success",
            "Choices completed.",
            (*MODEL, "finished_reason"),
            get_args(FinishReason),
        )
