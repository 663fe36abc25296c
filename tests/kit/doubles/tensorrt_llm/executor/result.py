"""What `generate_async` returns. A response changes the object when it is fetched, not before."""

import asyncio
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..facts import fact
from .messages import Response
from .utils import RequestError

_REASONS = {
    "end_id": "stop",
    "stop_words": "stop",
    "length": "length",
    "timeout": "timeout",
    "cancelled": "cancelled",
}


class Logprob(NamedTuple):
    """`rank` counts from 1."""

    logprob: float
    rank: int | None = None


@dataclass(slots=True)
class CompletionOutput:
    """One answer, cumulative. The `*_diff` properties are what the last response *of this output*
    added: they do not become empty when another output gets a response."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    prompt_logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    generation_logits: Any = None
    additional_context_outputs: Any = None
    additional_generation_outputs: Any = None
    disaggregated_params: Any = None
    request_perf_metrics: Any = None
    _last_text_len: int = field(default=0, repr=False)
    _last_token_ids_len: int = field(default=0, repr=False)
    _last_logprobs_len: int = field(default=0, repr=False)

    @property
    def length(self) -> int:
        return len(self.token_ids)

    @property
    def text_diff(self) -> str:
        return self.text[self._last_text_len :]

    @property
    def token_ids_diff(self) -> list[int]:
        return self.token_ids[self._last_token_ids_len :]

    @property
    def logprobs_diff(self) -> list[dict[int, Logprob]] | None:
        return None if self.logprobs is None else self.logprobs[self._last_logprobs_len :]


class GenerationResult:
    """One request, in flight or done: a queue of responses for one consumer."""

    def __init__(
        self, request_id: int, params: Any, executor: Any, *, tokenizer: Any, streaming: bool
    ) -> None:
        self.request_id = request_id
        self.sampling_params = params
        self.context_logits = None
        self.mm_embedding_handle = None
        self.disaggregated_params = None
        self.metrics_dict: dict[str, float] = {}
        self.cached_tokens = 0
        self.decoding_iter = 0
        self._executor = weakref.ref(executor)
        self._tokenizer = tokenizer if params.detokenize else None
        self._streaming = streaming
        self._outputs = [CompletionOutput(index) for index in range(params.best_of or params.n)]
        self._num_unfinished = len(self._outputs)
        self._done = False
        self._aborted = False
        self._responses: deque[Response] = deque()
        self._waiter: asyncio.Future[None] | None = None
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    @property
    def outputs(self) -> list[CompletionOutput]:
        """The answers; of `best_of` more than n the n likeliest, numbered anew."""
        n = self.sampling_params.n
        if len(self._outputs) <= n:
            return self._outputs
        best = sorted(self._outputs, key=lambda o: -(o.cumulative_logprob or 0.0))[:n]
        for index, output in enumerate(best):
            output.index = index
        return best

    @property
    def finished(self) -> bool:
        return self._done

    @property
    def avg_decoded_tokens_per_iter(self) -> float | None:
        if not self.decoding_iter:
            return None
        return len(self._outputs[0].token_ids) / self.decoding_iter

    def abort(self) -> None:
        executor = self._executor()
        assert executor is not None, "The executor is not set for this result."
        executor.abort_request(self.request_id)
        self._aborted = True

    def aborted(self) -> bool:
        return self._aborted

    def result(self, timeout: float | None = None) -> "GenerationResult":
        """Wait in this thread. `timeout` changes nothing, as in the package."""
        while not self._done:
            self._handle(self._get())
        return self

    async def aresult(self) -> "GenerationResult":
        while not self._done:
            await self._aresult_step()
        return self

    def __await__(self) -> Any:
        return self.aresult().__await__()

    def __aiter__(self) -> "GenerationResult":
        return self

    async def __anext__(self) -> "GenerationResult":
        if self._done:
            raise StopAsyncIteration
        await self._aresult_step()
        return self

    def __iter__(self) -> "GenerationResult":
        return self

    def __next__(self) -> "GenerationResult":
        if self._done:
            raise StopIteration
        self._handle(self._get())
        return self

    async def _aresult_step(self) -> None:
        assert self._loop is not None, "The asyncio event loop was not present during creation."
        while not self._responses:
            self._waiter = self._loop.create_future()
            await self._waiter
        self._handle(self._responses.popleft())

    def _get(self) -> Response:
        while not self._responses:
            time.sleep(0.001)
        return self._responses.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _handle(self, response: Response) -> None:
        if response.error is not None:
            # The done flag stays as it is: who iterates again waits for ever.
            raise (RuntimeError if response.fatal else RequestError)(response.error)
        executor = self._executor()
        if executor is not None:
            executor.raise_background_error()
        self._extend(self._outputs[response.index], response)
        self.cached_tokens = response.cached_tokens
        self.decoding_iter = response.iteration
        if response.is_final:
            self._done = True

    def _extend(self, output: CompletionOutput, response: Response) -> None:
        output._last_token_ids_len = len(output.token_ids)
        output.token_ids.extend(response.token_ids)
        if response.score is not None:
            output.cumulative_logprob = response.score
        if response.logprobs is not None:
            if output.logprobs is None:
                output.logprobs = []
            output._last_logprobs_len = len(output.logprobs)
            output.logprobs.extend(_logprobs(response.logprobs))
            if len(output.logprobs) != output.length:
                raise AssertionError(f"logprobs {len(output.logprobs)} != length {output.length}")
        if response.prompt_logprobs is not None:
            output.prompt_logprobs = _logprobs(response.prompt_logprobs)
        if response.finish_reason is not None:
            self._end(output, response.finish_reason)
        if self._tokenizer is not None:
            self._detokenize(output)

    def _end(self, output: CompletionOutput, reason: str) -> None:
        if reason not in _REASONS:
            raise ValueError(f"unknown finish reason: {reason}")
        output.finish_reason = _REASONS[reason]
        if reason != "stop_words":
            return
        for stop_reason, word in self.sampling_params._get_stop_reasons_and_words():
            if output.token_ids[-len(word) :] == word:
                output.stop_reason = stop_reason
                if not self.sampling_params.include_stop_str_in_output:
                    output.token_ids = output.token_ids[: -len(word)]
                    if output.logprobs is not None:
                        output.logprobs = output.logprobs[: -len(word)]
                return

    def _detokenize(self, output: CompletionOutput) -> None:
        """Decode everything anew: slow, and right. A cut character at the end is held back."""
        params = self.sampling_params
        output._last_text_len = len(output.text)
        text = self._tokenizer.decode(
            output.token_ids, skip_special_tokens=params.skip_special_tokens
        )
        if output.finish_reason is None and text.endswith("\ufffd"):
            return
        output.text = text
        if output.finish_reason is None:
            self._stop_in_text(output)

    def _stop_in_text(self, output: CompletionOutput) -> None:
        params = self.sampling_params
        stops = [params.stop] if isinstance(params.stop, str) else params.stop or ()
        for stop in stops:
            found = output.text.find(stop)
            if found < 0:
                continue
            end = found + len(stop) if params.include_stop_str_in_output else found
            output.text = output.text[:end]
            output.finish_reason, output.stop_reason = "stop", stop
            self.abort()
            self._done = True
            return


class RequestOutput(GenerationResult):
    """A result with its prompt."""

    def __init__(self, *args: Any, prompt: str | None, prompt_token_ids: list[int], **kw: Any):
        super().__init__(*args, **kw)
        self.prompt = prompt
        self.prompt_token_ids = prompt_token_ids

    def __repr__(self) -> str:
        return (
            f"RequestOutput(request_id={self.request_id}, prompt={self.prompt!r}, "
            f"outputs={self.outputs}, finished={self.finished})"
        )


def _logprobs(entries: list[dict[int, tuple[float, int]]]) -> list[dict[int, Logprob]]:
    return [{token: Logprob(*score) for token, score in entry.items()} for entry in entries]


def logprobs_wanted(params: Any) -> int | None:
    """How many alternatives a token gets; None for no logprobs at all."""
    if params.logprobs == 0 and not fact("logprobs_0_gives_sampled_token"):
        return None
    return params.logprobs
