"""TensorRT-LLM behind the engine's interface.

The package batches by itself and answers through asyncio. The engine owns an event loop, which runs
only inside its own calls, so that the worker remains one thread that receives, steps and sends.
"""

import asyncio
import math
import secrets
import threading
import time
from typing import Any

import structlog

from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import TensorRTConfig
from runtime.engines.base import FailedSequence, SequenceOutput
from runtime.engines.tensorrt_llm.admission.kv_room import KvRoom, read_capacity
from runtime.engines.tensorrt_llm.admission.request_checks import RequestChecks
from runtime.engines.tensorrt_llm.admission.scored_prompts import ScoredPrompts
from runtime.engines.tensorrt_llm.end_tokens import find_end_tokens
from runtime.engines.tensorrt_llm.failures import Failures
from runtime.engines.tensorrt_llm.kv_stats import KvStatsReader, SpecCounts
from runtime.engines.tensorrt_llm.sampling import SamplingBuilder
from runtime.engines.tensorrt_llm.sequence import Sequence
from runtime.engines.tensorrt_llm.setup.features import find_features
from runtime.engines.tensorrt_llm.setup.loading import load_model
from runtime.engines.tensorrt_llm.submission import Submission, num_whole_tokens
from runtime.engines.tensorrt_llm.watchdog import Watchdog
from runtime.errors import EngineError, EngineFatal, InvalidRequest
from runtime.hardware.choice import visible_gpus
from runtime.messages.engine import Capability, EngineInfo, EngineLimits, EngineUsage
from runtime.messages.loading import Announce, tell_nobody
from runtime.messages.request import PRIORITY_STEP, Request
from runtime.tokenizers.tokenizer import Tokenizer

log = structlog.get_logger(__name__)

WAIT_SECONDS = 0.005
"""Seconds that a step waits for a token before the worker looks for messages again."""

DRAIN_SECONDS = 10.0
"""Seconds in which an aborted request may deliver its final response
(docs/tensorrt-llm-contract.md, 3.5)."""

SHUTDOWN_SECONDS = 2.0
"""Seconds in which the package may shut down; afterwards its processes are killed."""


class TensorRTEngine:
    """Implements `Engine` on TensorRT-LLM's `LLM`, of any release from 1.2 on."""

    def __init__(
        self,
        config: EngineConfig,
        model_path: str,
        tokenizer: Tokenizer,
        announce: Announce = tell_nobody,
    ) -> None:
        started = time.monotonic()
        loaded = load_model(config, model_path, tokenizer.max_model_len, announce)
        settings, self._llm = loaded.config.tensorrt_llm, loaded.llm
        self._package = loaded.package
        self._lora_requests = loaded.lora_requests
        self._end_tokens = find_end_tokens(
            tokenizer, known_to_package=self._llm.tokenizer is not None
        )
        native = self._package.has_native_penalties(settings.sampler)
        self._sampling = SamplingBuilder(
            self._package, self._end_tokens, tokenizer, native_penalties=native
        )
        self._failures = Failures(self._package.request_error)
        self._watchdog = _watchdog(self._llm, settings)
        self._kv_stats = KvStatsReader(self._llm)
        self._kv_room = KvRoom(loaded.config, read_capacity(self._llm), self._kv_stats)
        self._spec_counts = SpecCounts()
        self._scored_prompts = ScoredPrompts(settings, loaded.gpus, tokenizer.vocab_size)
        self._tokenizer = tokenizer
        self._loop = asyncio.new_event_loop()
        self._running: dict[str, Sequence] = {}
        self._moved: dict[str, Sequence] = {}
        self._preempted: list[Request] = []
        self._failed: list[FailedSequence] = []
        self._broken: Exception | None = None
        self._is_waiting = False
        self._num_prompt_tokens = 0
        self._num_generation_tokens = 0
        self._num_cached_tokens = 0
        self._num_preempted = 0
        self.embedder = None
        self.capabilities: frozenset[Capability] = frozenset()
        self.limits = EngineLimits(
            max_model_len=self._kv_room.longest(loaded.sizes.max_model_len),
            max_num_seqs=loaded.sizes.max_num_seqs,
            max_num_waiting=config.max_num_waiting,
            max_num_batched_tokens=loaded.sizes.max_num_tokens,
            num_kv_tokens=self._kv_room.num_tokens,
        )
        self._checks = RequestChecks(
            settings,
            find_features(settings, self._package),
            self.limits,
            self._scored_prompts,
            tokenizer.vocab_size,
        )
        self.info = EngineInfo(
            engine="tensorrt_llm",
            version=self._package.version,
            device=next((gpu.name for gpu in visible_gpus(loaded.gpus.gpus)), "unknown"),
            load_seconds=time.monotonic() - started,
        )

    @property
    def num_running(self) -> int:
        return len(self._running)

    def prepare(self, request: Request) -> None:
        """Nothing to wait for: the package compiles grammars itself, outside its steps."""
        return None

    def can_add(self, request: Request) -> bool:
        """Whether the package has room for the request now. Its queue stays short, so that ours
        decides the order (docs/tensorrt-llm-contract.md, 10.13)."""
        if len(self._running) >= self.limits.max_num_seqs:
            return False
        if not self._running:
            return True
        running = self._running.values()
        scored = [each.request for each in running if each.is_scoring]
        reserved = [each.num_reserved_tokens for each in running]
        whole = num_whole_tokens(request, self.limits.max_model_len)
        has_room = self._scored_prompts.has_room(request, scored)
        return has_room and self._kv_room.fits(whole, reserved)

    def add(self, request: Request) -> None:
        assert request.request_id not in self._running, "request added twice: this is a bug"
        request = self._checks.accept(request)
        submission = Submission(request, self.limits.max_model_len, self._tokenizer)
        sequence = Sequence(submission, self._end_tokens, time.monotonic())
        self._running[request.request_id] = sequence
        if not submission.max_tokens:  # the answer already has its full length
            self._moved[request.request_id] = sequence
            return
        try:
            self._loop.run_until_complete(self._submit(sequence))
        except InvalidRequest:
            del self._running[request.request_id]
            raise

    def abort(self, request_id: str) -> None:
        sequence = self._running.pop(request_id, None)
        if sequence is None:
            return
        self._moved.pop(request_id, None)
        self._cancel(sequence)

    def preempt(self, request_id: str) -> None:
        sequence = self._running.get(request_id)
        if sequence is None or request_id in self._moved:
            return  # gone, or it has tokens that must be delivered first
        self.abort(request_id)
        self._preempted.append(sequence.to_request())
        self._num_preempted += 1

    def take_preempted(self) -> list[Request]:
        preempted, self._preempted = self._preempted, []
        return preempted

    def take_failed(self) -> list[FailedSequence]:
        failed, self._failed = self._failed, []
        return failed

    def step(self) -> list[SequenceOutput]:
        """The package's new output; waits up to `WAIT_SECONDS` if there is none.

        Raises EngineFatal when the package is broken, dead or hangs.
        """
        if not self._running:
            return []
        self._run_loop()
        now = time.monotonic()
        moved, self._moved = self._moved, {}
        outputs = [
            output
            for sequence in moved.values()
            if (output := self._take(sequence, now)) is not None
        ]
        if self._broken is not None:
            raise EngineFatal(str(self._broken)) from self._broken
        self._watchdog.check(now, self._running.values())
        return outputs

    def take_usage(self) -> EngineUsage:
        counts = self._kv_stats.spec_counts
        usage = EngineUsage(
            num_prompt_tokens=self._num_prompt_tokens,
            num_generation_tokens=self._num_generation_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_preempted=self._num_preempted,
            kv_cache_usage=self._kv_stats.latest.usage,
            num_draft_tokens=counts.num_draft_tokens - self._spec_counts.num_draft_tokens,
            num_accepted_tokens=counts.num_accepted_tokens - self._spec_counts.num_accepted_tokens,
        )
        self._spec_counts = counts
        self._num_prompt_tokens = self._num_generation_tokens = 0
        self._num_cached_tokens = self._num_preempted = 0
        return usage

    def close(self) -> None:
        """Shuts the package down, or returns after `SHUTDOWN_SECONDS`: the process is about to end,
        and its remaining child processes are killed then."""
        self._kv_stats.stop()
        for request_id in list(self._running):
            self.abort(request_id)
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks))
        shutdown = threading.Thread(target=self._llm.shutdown, name="shutdown", daemon=True)
        shutdown.start()
        shutdown.join(SHUTDOWN_SECONDS)
        if shutdown.is_alive():
            log.warning("engine_does_not_shut_down", seconds=SHUTDOWN_SECONDS)
        self._loop.close()

    async def _submit(self, sequence: Sequence) -> None:
        """Hands a sequence to the package. It runs inside the event loop, because the result could
        not be awaited otherwise. Arguments are passed by name, because their order changes between
        releases (docs/tensorrt-llm-contract.md, 3.1 and 2.1)."""
        request = sequence.request
        arguments: dict[str, Any] = {"streaming": True}
        if request.lora:
            arguments["lora_request"] = self._lora_requests[request.lora]
        if "cache_salt" in self._package.generate_parameters:
            arguments["cache_salt"] = _cache_salt(sequence.submission)
        if self._package.has_priority:
            arguments["priority"] = _priority(request.priority)
        inputs = {"prompt_token_ids": sequence.submission.token_ids}
        try:
            params = self._sampling.build(sequence.submission)
            sequence.result = self._llm.generate_async(inputs, sampling_params=params, **arguments)
        except InvalidRequest:
            raise
        except Exception as error:
            raise self._failures.at_submit(error, request) from error
        sequence.consumer = asyncio.ensure_future(self._consume(sequence))

    async def _consume(self, sequence: Sequence) -> None:
        """Follows one request to its end. The result's lists hold all tokens so far, so it is
        enough to note that there are new ones."""
        try:
            async for _ in sequence.result:
                self._note(sequence)
            sequence.ended = True
        except Exception as error:
            sequence.error = error  # sorted in the next step
        self._note(sequence)

    def _note(self, sequence: Sequence) -> None:
        if sequence.closed:
            return
        self._moved[sequence.request.request_id] = sequence
        if self._is_waiting:
            self._is_waiting = False
            self._loop.stop()  # it stops after all ready tasks have run: a batch leaves in one step

    def _run_loop(self) -> None:
        """Runs the event loop until a sequence has new output or the wait is over."""
        self._is_waiting = not self._moved
        seconds = WAIT_SECONDS if self._is_waiting else 0.0
        timer = self._loop.call_later(seconds, self._loop.stop)
        self._loop.run_forever()
        timer.cancel()
        self._is_waiting = False

    def _take(self, sequence: Sequence, now: float) -> SequenceOutput | None:
        request = sequence.request
        if sequence.result is None:
            del self._running[request.request_id]
            return sequence.whole_already()
        had_started = sequence.has_started
        try:
            if sequence.error is not None:
                raise sequence.error
            output = sequence.take()
        except Exception as error:
            self._fail(sequence, error)
            return None
        sequence.last_progress = now
        if output is None:
            return None
        if not had_started:
            self._num_cached_tokens += sequence.num_cached_tokens
            num_tokens = len(sequence.submission.token_ids)
            self._num_prompt_tokens += num_tokens - sequence.num_cached_tokens
        self._num_generation_tokens += len(output.token_ids)
        if output.finish_reason is not None:
            del self._running[request.request_id]
            if sequence.ended:
                sequence.closed = True
            else:  # at a token that the package does not stop at
                self._cancel(sequence)
        return output

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        """Ends the sequence if the error is its own; any other error ends the engine."""
        meaning = self._failures.while_running(error, sequence.has_started, sequence.request)
        if isinstance(meaning, EngineFatal):
            self._broken = meaning
            return
        del self._running[sequence.request_id]
        self._failed.append(FailedSequence(sequence.request_id, meaning))
        if isinstance(error, EngineError) and not sequence.ended:
            self._cancel(sequence)
        sequence.closed = True

    def _cancel(self, sequence: Sequence) -> None:
        """Aborts a sequence. It may deliver its final response in the background for
        `DRAIN_SECONDS` (docs/tensorrt-llm-contract.md, 10.9)."""
        sequence.closed = True
        consumer = sequence.consumer
        if consumer is None or consumer.done():
            return
        try:
            sequence.result.abort()
        except Exception as error:  # the executor is gone (3.5): the next step raises it
            self._broken = error
            return
        timer = self._loop.call_later(DRAIN_SECONDS, consumer.cancel)
        consumer.add_done_callback(lambda _: timer.cancel())


def _watchdog(llm: Any, settings: TensorRTConfig) -> Watchdog:
    return Watchdog(
        llm,
        no_progress_timeout=settings.no_progress_timeout,
        may_pause=settings.scheduler_policy == "MAX_UTILIZATION",
    )


def _cache_salt(submission: Submission) -> str | None:
    """The cache salt of a request. A prompt that is to be scored gets a random one: tokens that are
    found in the cache get no log-probabilities (docs/tensorrt-llm-contract.md, 3.6)."""
    if submission.scores_prompt:
        return secrets.token_hex(16)
    return submission.request.cache_salt or None


def _priority(priority: int) -> float:
    """Converts a priority. Ours is lower for requests that are served sooner, and a class is
    `PRIORITY_STEP` wide. The package's is higher for them, from 0 to 1 with 0.5 in the middle
    (docs/tensorrt-llm-contract.md, 2.1)."""
    classes = max(min(priority / PRIORITY_STEP, 8.0), -8.0)
    return 1.0 / (1.0 + math.exp(classes))
