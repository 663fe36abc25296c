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
from runtime.config.tensorrt_llm import NoSpeculation, TensorRTConfig
from runtime.engines.base import FailedSequence, SequenceOutput
from runtime.engines.features import (
    Feature,
    check_features,
    check_token_ids,
    without_optional,
)
from runtime.engines.tensorrt_llm.end_tokens import find_end_tokens
from runtime.engines.tensorrt_llm.failures import Failures
from runtime.engines.tensorrt_llm.kv_stats import KvStatsReader, SpecCounts
from runtime.engines.tensorrt_llm.sampling import SamplingBuilder
from runtime.engines.tensorrt_llm.scored_prompts import ScoredPrompts
from runtime.engines.tensorrt_llm.sequence import Sequence
from runtime.engines.tensorrt_llm.setup.auto import fill_settings
from runtime.engines.tensorrt_llm.setup.checkpoint import Checkpoint, read_checkpoint
from runtime.engines.tensorrt_llm.setup.options import build_arguments, find_sizes
from runtime.engines.tensorrt_llm.setup.package import Package, find_class, load_package
from runtime.engines.tensorrt_llm.submission import Submission, num_whole_tokens
from runtime.engines.tensorrt_llm.watchdog import Watchdog
from runtime.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineFatal,
    InvalidRequest,
    SetupError,
)
from runtime.hardware.choice import visible_gpus
from runtime.hardware.nvml import GpuReader
from runtime.hardware.readings import GpuSnapshot
from runtime.messages.engine import Capability, EngineInfo, EngineLimits, EngineUsage
from runtime.messages.loading import Announce, tell_nobody
from runtime.messages.request import PRIORITY_STEP, Request
from runtime.structured.structural_tag import is_legacy
from runtime.structured.weight import check_divisors
from runtime.tokenizers.tokenizer import Tokenizer

log = structlog.get_logger(__name__)

WAIT_SECONDS = 0.005
"""Seconds that a step waits for a token before the worker looks for messages again."""

DRAIN_SECONDS = 10.0
"""Seconds in which an aborted request may deliver its final response
(docs/tensorrt-llm-contract.md, 3.5)."""

SHUTDOWN_SECONDS = 2.0
"""Seconds in which the package may shut down; afterwards its processes are killed."""

BLOCK_TOKENS = 32
"""Tokens in a block of the KV cache: the package's default (docs/tensorrt-llm-contract.md, 5.1)."""

_ALWAYS: frozenset[Feature] = frozenset(("logprobs", "stop_token_ids"))
_BY_LOGITS_PROCESSOR: frozenset[Feature] = frozenset(
    ("logit_bias", "min_tokens", "repetition_penalty", "thinking_token_budget")
)


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
        checkpoint = read_checkpoint(model_path)
        self._package = _load_package(checkpoint)
        gpus = _read_gpus()
        config = fill_settings(config, checkpoint, gpus)
        self._settings = config.tensorrt_llm
        sizes = find_sizes(config, checkpoint, tokenizer.max_model_len)
        arguments = build_arguments(config, checkpoint, sizes, self._package)
        announce("engine")
        self._llm = _construct(self._package, arguments)
        self._end_tokens = find_end_tokens(
            tokenizer, known_to_package=self._llm.tokenizer is not None
        )
        native = self._package.has_native_penalties(self._settings.sampler)
        self._sampling = SamplingBuilder(
            self._package, self._end_tokens, tokenizer, native_penalties=native
        )
        self._failures = Failures(self._package.request_error)
        self._watchdog = _watchdog(self._llm, self._settings)
        self._kv_stats = KvStatsReader(self._llm)
        self._spec_counts = SpecCounts()
        self._scored_prompts = ScoredPrompts(self._settings, gpus, tokenizer.vocab_size)
        self._features = _features(self._settings, self._package)
        self._lora_requests = _lora_requests(self._settings)
        self._tokenizer = tokenizer
        self._vocab_size = tokenizer.vocab_size
        self._num_kv_tokens = 0 if config.num_kv_tokens == "auto" else config.num_kv_tokens
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
            max_model_len=sizes.max_model_len,
            max_num_seqs=sizes.max_num_seqs,
            max_num_waiting=config.max_num_waiting,
            max_num_batched_tokens=sizes.max_num_tokens,
            num_kv_tokens=self._num_kv_tokens,
        )
        self.info = EngineInfo(
            engine="tensorrt_llm",
            version=self._package.version,
            device=next((gpu.name for gpu in visible_gpus(gpus.gpus)), "unknown"),
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
        scored = [each.request for each in self._running.values() if each.is_scoring]
        return self._scored_prompts.has_room(request, scored) and self._fits(request)

    def add(self, request: Request) -> None:
        assert request.request_id not in self._running, "request added twice: this is a bug"
        request = self._settle_tag(request)
        check_features(request, self._features, "tensorrt_llm")
        self._check(request)
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

    def _settle_tag(self, request: Request) -> Request:
        """The request, without its structural tag if the package cannot enforce that. Raises
        InvalidRequest if the tag is not optional."""
        wanted = request.sampling.structured_output
        if wanted is None or wanted.structural_tag is None:
            return request
        enforces = self._settings.guided_decoding_backend == "xgrammar"
        if enforces and "structured_output" in self._features and is_legacy(wanted.structural_tag):
            return request
        if not wanted.is_optional:
            raise InvalidRequest(
                f"TensorRT-LLM cannot enforce `{wanted.source}` in this way: leave out `strict` and"
                " `response_format`.",
                param=wanted.source,
                code="unsupported_parameter",
            )
        return without_optional(request)

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

    def _check(self, request: Request) -> None:
        """Checks that the package makes too late or not at all (docs/tensorrt-llm-contract.md,
        2.3 and 4.2)."""
        num_tokens = len(request.prompt_token_ids)
        if not num_tokens:
            raise InvalidRequest("The prompt has no tokens.", param="prompt")
        if num_tokens >= self.limits.max_model_len:
            raise ContextLengthExceeded.by_prompt(
                num_tokens, self.limits.max_model_len, param="prompt"
            )
        most = self.limits.max_num_batched_tokens
        if not self._settings.enable_chunked_prefill and num_tokens > most:
            raise ContextLengthExceeded(
                f"The prompt is too long: it has {num_tokens} tokens, and this server, which reads"
                f" prompts in one piece, has room for {most}.",
                param="prompt",
            )
        if not all(0 <= token < self._vocab_size for token in request.prompt_token_ids):
            raise InvalidRequest(
                f"A token id of the prompt is outside 0..{self._vocab_size - 1}.", param="prompt"
            )
        self._scored_prompts.check(request)
        self._check_sampling(request)

    def _check_sampling(self, request: Request) -> None:
        sampling = request.sampling
        check_token_ids(request, self._vocab_size)
        if sampling.structured_output is not None:
            check_divisors(sampling.structured_output)
        if request.lora and request.lora not in self._lora_requests:
            raise InvalidRequest(
                f"There is no adapter {request.lora!r} here.", param="model", code="model_not_found"
            )
        speculates = not isinstance(self._settings.speculative, NoSpeculation)
        if speculates and (sampling.presence_penalty or sampling.frequency_penalty):
            param = "presence_penalty" if sampling.presence_penalty else "frequency_penalty"
            raise InvalidRequest(
                f"`{param}` is not possible while engine.tensorrt_llm.speculative drafts tokens;"
                " leave it out.",
                param=param,
            )

    def _fits(self, request: Request) -> bool:
        """Whether the KV cache has room for the prompts and whole answers of all requests. Always
        True if its size is unknown, and with MAX_UTILIZATION: that policy keeps no room for answers
        and decides by itself."""
        num_kv_tokens = self._num_kv_tokens or self._kv_stats.latest.num_tokens
        if not num_kv_tokens or self._settings.scheduler_policy == "MAX_UTILIZATION":
            return True
        reserved = [sequence.num_reserved_tokens for sequence in self._running.values()]
        reserved.append(num_whole_tokens(request, self.limits.max_model_len))
        return sum(_whole_blocks(number) for number in reserved) <= num_kv_tokens

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


def _read_gpus() -> GpuSnapshot:
    reader = GpuReader()
    try:
        return reader.read()
    finally:
        reader.close()


def _load_package(checkpoint: Checkpoint) -> Package:
    if checkpoint.built is None:
        return load_package()
    log.warning(
        "tensorrt_engines_are_legacy",
        folder=str(checkpoint.folder),
        hint="TensorRT-LLM 1.4 does not load them; serve the model's Hugging Face folder",
    )
    return load_package(legacy=True)


def _construct(package: Package, arguments: dict[str, Any]) -> Any:
    """Loads the model. Every error of the package becomes a SetupError for the user: the same
    arguments would fail again on this machine."""
    try:
        return package.llm_class(**arguments)
    except Exception as error:
        raise SetupError(
            f"TensorRT-LLM does not load {arguments['model']}: {error}. Check engine.tensorrt_llm,"
            " the model's folder and the memory of the GPU."
        ) from error


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


def _features(settings: TensorRTConfig, package: Package) -> frozenset[Feature]:
    """The features that these settings and this release support. Speculation rules out logits
    processors: they see one token at a time, and a draft checks several. MAX_UTILIZATION rules out
    structured output: the package begins the grammar of a paused answer anew
    (docs/tensorrt-llm-contract.md, 5.2)."""
    features = _ALWAYS
    if _can_score_prompts(settings, package):
        features |= {"prompt_logprobs"}
    pauses = settings.scheduler_policy == "MAX_UTILIZATION"
    if settings.guided_decoding_backend != "off" and not pauses:
        features |= {"structured_output"}
    if settings.lora.adapters:
        features |= {"lora"}
    if isinstance(settings.speculative, NoSpeculation):
        features |= _BY_LOGITS_PROCESSOR
    return features


def _can_score_prompts(settings: TensorRTConfig, package: Package) -> bool:
    """Whether the release returns log-probabilities of prompts, and can be kept from using the
    cache for one."""
    reuses = settings.kv_cache.enable_block_reuse is not False
    can_pass_by = not reuses or "cache_salt" in package.generate_parameters
    return can_pass_by and "prompt_logprobs" in package.sampling_fields


def _lora_requests(settings: TensorRTConfig) -> dict[str, Any]:
    if not settings.lora.adapters:
        return {}
    lora_request = find_class("LoRARequest")
    adapters = enumerate(settings.lora.adapters.items(), 1)
    return {name: lora_request(name, number, folder) for number, (name, folder) in adapters}


def _priority(priority: int) -> float:
    """Converts a priority. Ours is lower for requests that are served sooner, and a class is
    `PRIORITY_STEP` wide. The package's is higher for them, from 0 to 1 with 0.5 in the middle
    (docs/tensorrt-llm-contract.md, 2.1)."""
    classes = max(min(priority / PRIORITY_STEP, 8.0), -8.0)
    return 1.0 / (1.0 + math.exp(classes))


def _whole_blocks(num_tokens: int) -> int:
    return -(-num_tokens // BLOCK_TOKENS) * BLOCK_TOKENS
