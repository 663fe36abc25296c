"""The worker: an iteration loop over a batch of sequences, as the engine of the package has one.

It runs in a thread of the caller's process, or in a process of its own; it knows neither. What it
says goes through `Host`.
"""

import time
from collections import deque
from collections.abc import Sequence as SequenceOf
from typing import Protocol

import msgspec

from ...plan import AT_START, Plan, strikes
from ...token_maker import TokenMaker
from ..messages import Batch, Cancel, Die, EngineRequest, Response, WorkerConfig
from .guides import Guide, GuideError, make_guide
from .prefix_cache import PrefixCache
from .sampler import Sampler
from .sequence import Sequence
from .statistics import iteration_record

CUDA_ERROR = "CUDA error: an illegal memory access was encountered"


class Host(Protocol):
    """Where the worker runs. `receive` waits for messages when `block`; None means stop. `die`
    does not come back; `hang` does when there is nobody left to wait for the worker."""

    def receive(self, block: bool) -> SequenceOf[EngineRequest | Cancel | Die | None]: ...

    def send(self, batch: Batch) -> None: ...

    def die(self) -> None: ...

    def hang(self) -> None: ...


class Worker:
    """Owns everything that runs. `run` returns when it is told to stop."""

    def __init__(self, config: WorkerConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._plan = msgspec.json.decode(config.plan, type=Plan)
        self._maker = TokenMaker(self._plan, config.vocab_size, config.eos_token_id)
        self._sampler = Sampler(config, self._maker)
        self._cache = PrefixCache(config.tokens_per_block, config.num_kv_tokens)
        self._faults = tuple(f for f in self._plan.faults if f.kind not in AT_START)
        self._waiting: deque[EngineRequest] = deque()
        self._running: list[Sequence] = []
        self._paused: deque[Sequence] = deque()
        self._responses: list[Response] = []
        self._poison: str | None = None
        self._iteration = 0

    def run(self) -> None:
        while self._receive():
            self._step()
        if self._responses:  # of what was cancelled last
            self._host.send(Batch(self._responses))

    def _receive(self) -> bool:
        idle = not (self._running or self._paused or self._waiting or self._responses)
        for message in self._host.receive(block=idle):
            if message is None:
                return False
            if isinstance(message, Die):
                self._host.die()
            elif isinstance(message, Cancel):
                self._cancel(message.client_id)
            else:
                self._enqueue(message)
        return True

    def _enqueue(self, request: EngineRequest) -> None:
        room = self._config.max_seq_len - len(request.prompt_token_ids)
        if room <= 0:
            self._fail(
                request.client_id,
                f"The number of prompt tokens ({len(request.prompt_token_ids)}) leaves no room in "
                f"max_seq_len ({self._config.max_seq_len}) for an answer",
            )
            return
        limit = room if request.max_tokens is None else min(request.max_tokens, room)
        self._waiting.append(msgspec.structs.replace(request, max_tokens=limit))
        if self._config.use_priority:
            self._waiting = deque(sorted(self._waiting, key=lambda waiting: -waiting.priority))

    def _step(self) -> None:
        if self._plan.step_ms:
            time.sleep(self._plan.step_ms / 1000)
        self._iteration += 1
        self._pause_what_has_no_room()
        self._admit()
        budget = self._config.max_num_tokens
        num_context = num_generating = 0
        for sequence in tuple(self._running):
            if sequence.finish_reason is not None:
                continue  # its request was failed by another one in this iteration
            if sequence.prefill_left:
                chunk = self._prefill(sequence, budget)
                budget -= chunk
                num_context += 1
                if sequence.prefill_left:
                    continue
            else:
                budget -= 1
                num_generating += 1
            self._advance(sequence)
        self._forget_finished()
        self._send(num_context, num_generating)

    def _admit(self) -> None:
        """What was paused goes on before anything new begins."""
        if self._poison is not None:
            self._refuse(self._poison)
        while self._paused and self._has_room(self._need(self._paused[0])):
            self._resume(self._paused.popleft())
        while self._waiting and not self._paused:
            if not self._has_room(self._need(self._waiting[0])):
                return
            self._start(self._waiting.popleft())

    def _refuse(self, message: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            self._fail(request.client_id, message)

    def _has_room(self, num_tokens: int) -> bool:
        if not self._running:
            return True
        is_full = len(self._running) >= self._config.max_batch_size
        return not is_full and self._num_reserved + num_tokens <= self._config.num_kv_tokens

    def _need(self, waiting: EngineRequest | Sequence) -> int:
        """Tokens of the cache: for the whole answer, or, where answers may be paused, for what is
        there and for the next step."""
        request = waiting.request if isinstance(waiting, Sequence) else waiting
        if self._config.reserve_whole:
            return len(request.prompt_token_ids) + request.max_tokens
        known = (
            waiting.num_tokens if isinstance(waiting, Sequence) else len(request.prompt_token_ids)
        )
        return known + self._plan.tokens_per_step

    @property
    def _num_reserved(self) -> int:
        return sum(self._need(sequence) for sequence in self._running)

    def _pause_what_has_no_room(self) -> None:
        """The last ones that have begun give way. One alone goes on."""
        while len(self._running) > 1 and self._num_reserved > self._config.num_kv_tokens:
            self._paused.appendleft(self._running.pop())

    def _resume(self, sequence: Sequence) -> None:
        """Prompt and answer are read as one prompt, and the grammar begins anew."""
        sequence.guide = make_guide(sequence.request, self._config, self._maker.eos_token_id)
        sequence.prefill_left = sequence.num_tokens
        sequence.is_read_again = True
        self._running.append(sequence)

    def _start(self, request: EngineRequest) -> None:
        try:
            guide = make_guide(request, self._config, self._maker.eos_token_id)
        except GuideError as error:
            self._fail(request.client_id, str(error))
            return
        cached = 0
        if self._config.enable_block_reuse:
            cached = self._cache.match(request.prompt_token_ids, request.cache_salt)
        self._running.append(self._sequence(request, guide, cached))

    def _sequence(self, request: EngineRequest, guide: Guide | None, cached: int) -> Sequence:
        sequence = Sequence(request, self._maker)
        sequence.guide = guide
        sequence.plain = self._sampler.is_plain(request, guide is not None)
        sequence.cached_tokens = cached
        sequence.prefill_left = len(request.prompt_token_ids) - cached
        if self._faults:
            prompt = request.prompt_token_ids
            sequence.faults = tuple(
                f for f in self._faults if f.prompt_has is None or f.prompt_has in prompt
            )
        if request.prompt_logprobs:
            sequence.prompt_logprobs = self._sampler.prompt_scores(request, cached)
        return sequence

    def _prefill(self, sequence: Sequence, budget: int) -> int:
        chunk = min(sequence.prefill_left, max(budget, 0))
        if not self._config.chunked_prefill and chunk < sequence.prefill_left:
            return 0
        sequence.prefill_left -= chunk
        if chunk and sequence.prefill_left:
            self._sampler.process_piece(sequence)
        if not sequence.prefill_left and self._config.enable_block_reuse:
            request = sequence.request
            self._cache.store(request.prompt_token_ids, request.cache_salt)
        return chunk

    def _advance(self, sequence: Sequence) -> None:
        if sequence.faults:
            self._strike(sequence)
            if sequence.finish_reason is not None:
                return
        sequence.iteration += 1
        for _ in range(self._plan.tokens_per_step):
            token = self._next_token(sequence)
            if token is None:
                return
            reason = self._finish_reason(sequence, token)
            if reason is not None:
                self._finish(sequence, reason)
                return
        if sequence.request.streaming and self._is_due(sequence.iteration):
            self._respond(sequence)

    def _next_token(self, sequence: Sequence) -> int | None:
        """Make one token; None when that failed."""
        if sequence.plain:
            token = self._maker.prefers(sequence.cursor, sequence.num_tokens)
        else:
            try:
                token = self._sampler.sample(sequence)
            except Exception as error:  # of a processor
                self._sampling_failed(sequence, f"{type(error).__name__}: {error}")
                return None
            if sequence.guide is not None:
                sequence.guide.push(token)
        sequence.is_read_again = False
        self._maker.push(sequence.cursor, token)
        sequence.tokens.append(token)
        sequence.unsent.append(token)
        return token

    def _finish_reason(self, sequence: Sequence, token: int) -> str | None:
        """The first of: end token, token limit, stop token."""
        request = sequence.request
        if token == request.end_id:
            return "end_id"
        if len(sequence.tokens) >= request.max_tokens:
            return "length"
        stops = request.end_id >= 0 or self._config.stops_despite_ignore_eos
        return "stop_token" if stops and token in request.stop_token_ids else None

    def _sampling_failed(self, sequence: Sequence, message: str) -> None:
        if self._config.failing_processor_fails_all:
            self._fail_all(message)
        else:
            self._fail(sequence.request.client_id, message)

    def _is_due(self, iteration: int) -> bool:
        at_once = iteration == 1 and self._config.first_token_at_once
        return at_once or iteration % self._config.stream_interval == 0

    def _finish(self, sequence: Sequence, reason: str) -> None:
        sequence.finish_reason = reason
        if reason == "end_id" and not self._config.eos_in_token_ids:
            sequence.unsent.pop()
            del sequence.logprobs[-1:]
        self._respond(sequence, is_final=True)

    def _respond(self, sequence: Sequence, *, is_final: bool = False) -> None:
        request = sequence.request
        self._responses.append(
            Response(
                client_id=request.client_id,
                token_ids=sequence.unsent,
                finish_reason=sequence.finish_reason,
                is_final=is_final,
                logprobs=None if request.logprobs is None else sequence.logprobs,
                prompt_logprobs=sequence.prompt_logprobs,
                cached_tokens=sequence.cached_tokens,
            )
        )
        sequence.unsent = []
        sequence.logprobs = []

    def _send(self, num_context: int, num_generating: int) -> None:
        stats = None
        if self._config.iter_stats and not self._plan.stats_stay_empty:
            stats = iteration_record(
                self._config,
                iteration=self._iteration,
                num_scheduled=num_context + num_generating,
                num_generating=num_generating,
                num_reserved=self._num_reserved,
                num_paused=len(self._paused),
                tokens_per_step=self._plan.tokens_per_step,
                cache=self._cache,
            )
        if self._responses or stats is not None:
            responses, self._responses = self._responses, []
            self._host.send(Batch(responses, stats))

    @property
    def _begun(self) -> list[Sequence]:
        return [s for s in (*self._running, *self._paused) if s.finish_reason is None]

    def _forget_finished(self) -> None:
        self._running = [s for s in self._running if s.finish_reason is None]
        self._paused = deque(s for s in self._paused if s.finish_reason is None)

    def _cancel(self, client_id: int) -> None:
        for sequence in self._begun:
            if sequence.request.client_id == client_id:
                self._finish(sequence, "cancelled")
        self._forget_finished()
        for request in [r for r in self._waiting if r.client_id == client_id]:
            self._waiting.remove(request)
            self._responses.append(Response(client_id, [], "cancelled", is_final=True))

    def _fail(self, client_id: int, message: str) -> None:
        for sequence in self._begun:
            if sequence.request.client_id == client_id:
                sequence.finish_reason = "failed"
        self._responses.append(Response(client_id, [], is_final=True, error=message))

    def _fail_all(self, message: str) -> None:
        for sequence in self._begun:
            self._fail(sequence.request.client_id, message)

    def _strike(self, sequence: Sequence) -> None:
        for fault in sequence.faults:
            due = fault.after is None or fault.after == len(sequence.tokens)
            if due and strikes(fault):
                getattr(self, f"_{fault.kind}")(sequence, fault.message)

    def _request_error(self, sequence: Sequence, message: str | None) -> None:
        self._fail(sequence.request.client_id, message or "the request failed in the engine")

    def _cuda_error(self, sequence: Sequence, message: str | None) -> None:
        """The GPU is lost: everything that runs fails, and so does everything later."""
        self._poison = message or CUDA_ERROR
        self._fail_all(self._poison)

    def _loop_terminates(self, sequence: Sequence, message: str | None) -> None:
        """The loop's own error. Every request that runs is told so, as if it were its own error;
        the next one finds the engine dead. Releases without that just end."""
        if not self._config.loop_says_its_end:
            self._host.die()
        reason = message or "IndexError: list index out of range"
        self._fail_all(f"Event loop terminated with error: {reason}")
        self._send(0, 0)
        self._host.die()

    def _unequal_logprobs(self, sequence: Sequence, message: str | None) -> None:
        """One score too many, which the reader of the answer notices."""
        sequence.faults = ()
        sequence.logprobs.append({0: (0.0, 1)})

    def _engine_error(self, sequence: Sequence, message: str | None) -> None:
        sequence.faults = ()
        self._host.send(Batch([], engine_error=message or "the engine failed"))

    def _worker_dies(self, sequence: Sequence, message: str | None) -> None:
        self._host.die()

    def _hang(self, sequence: Sequence, message: str | None) -> None:
        sequence.faults = ()
        self._host.hang()

    def _timeout(self, sequence: Sequence, message: str | None) -> None:
        self._finish(sequence, "timeout")
