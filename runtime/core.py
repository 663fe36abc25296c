"""The engine process without its socket: messages in, steps, messages out."""

import time

from runtime.engines.base import Engine
from runtime.errors import EngineOverloaded, InvalidRequest
from runtime.messages import EngineStats, FromEngine, RequestFailed, StepOutput
from runtime.output import OutputProcessor
from runtime.request import Request
from runtime.tokenizer import Tokenizer
from runtime.waiting_queue import WaitingQueue


class EngineCore:
    """Waiting queue, engine and output processor, advanced one step at a time.

    A request is in exactly one of the queue and the engine. What has to be told to the gateway
    collects in an outbox until `take_messages`.
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self._engine = engine
        self._waiting = WaitingQueue(engine.limits.max_num_waiting)
        self._output = OutputProcessor(tokenizer)
        self._outbox: list[FromEngine] = []

    @property
    def has_work(self) -> bool:
        return bool(len(self._waiting) or self._engine.num_running)

    def submit(self, request: Request) -> None:
        """Queue a request, or answer it with a refusal."""
        num_free = self._engine.limits.max_num_seqs - self._engine.num_running
        try:
            self._waiting.push(request, num_free=num_free)
        except EngineOverloaded as error:
            self._outbox.append(_refusal(request.request_id, error))

    def abort(self, request_id: str) -> None:
        """Free what the request holds, before the next step. Unknown ids are ignored."""
        if not self._waiting.remove(request_id):
            self._engine.abort(request_id)
            self._output.remove(request_id)

    def step(self) -> None:
        """Admit what fits, compute one batch, turn it into text."""
        started = time.monotonic()
        self._admit()
        processed = self._output.process(self._engine.step())
        for request_id in processed.stopped:
            self._engine.abort(request_id)
        stats = self._stats(time.monotonic() - started)
        self._outbox.append(StepOutput(processed.outputs, stats))

    def heartbeat(self) -> None:
        """Say that the process lives though there is nothing to do."""
        self._outbox.append(StepOutput([], self._stats(0.0)))

    def take_messages(self) -> list[FromEngine]:
        """Hand over what has collected since the last call."""
        messages, self._outbox = self._outbox, []
        return messages

    def _admit(self) -> None:
        while (request := self._waiting.peek()) is not None and self._engine.can_add(request):
            self._waiting.pop()
            try:
                self._engine.add(request)
            except InvalidRequest as error:
                self._outbox.append(_refusal(request.request_id, error))
            else:
                self._output.add(request)

    def _stats(self, step_seconds: float) -> EngineStats:
        usage = self._engine.take_usage()
        return EngineStats(
            num_running=self._engine.num_running,
            num_waiting=len(self._waiting),
            num_prompt_tokens=usage.num_prompt_tokens,
            num_generation_tokens=usage.num_generation_tokens,
            num_preempted=usage.num_preempted,
            kv_cache_usage=usage.kv_cache_usage,
            step_seconds=step_seconds,
        )


def _refusal(request_id: str, error: EngineOverloaded | InvalidRequest) -> RequestFailed:
    if isinstance(error, EngineOverloaded):
        return RequestFailed(request_id, "overloaded", str(error), retry_after=error.retry_after)
    return RequestFailed(request_id, "invalid", str(error), error.param, error.code)
