"""What `generate_async` returns. A response changes the object when it is fetched, not before."""

import asyncio
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..facts import fact
from .messages import Response
from .utils import EngineDeadError, RequestError

_REASONS = {
    "end_id": "stop",
    "stop_token": "stop",
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
    """The answer, cumulative."""

    index: int = 0
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] | None = None
    prompt_logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    @property
    def length(self) -> int:
        return len(self.token_ids)


class RequestOutput:
    """One request, in flight or done: a queue of responses for one consumer."""

    def __init__(
        self,
        request_id: int,
        params: Any,
        executor: Any,
        *,
        streaming: bool,
        prompt_token_ids: list[int],
    ) -> None:
        self.request_id = request_id
        self.sampling_params = params
        self.prompt = None
        self.prompt_token_ids = prompt_token_ids
        self.cached_tokens = 0
        self.outputs = [CompletionOutput()]
        self._executor = weakref.ref(executor)
        self._streaming = streaming
        self._done = False
        self._responses: deque[Response] = deque()
        self._waiter: asyncio.Future[None] | None = None
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    @property
    def finished(self) -> bool:
        return self._done

    def abort(self) -> None:
        executor = self._executor()
        assert executor is not None, "The executor is not set for this result."
        executor.abort_request(self.request_id)

    async def aresult(self) -> "RequestOutput":
        while not self._done:
            await self._aresult_step()
        return self

    def __await__(self) -> Any:
        return self.aresult().__await__()

    def __aiter__(self) -> "RequestOutput":
        return self

    async def __anext__(self) -> "RequestOutput":
        if self._done:
            raise StopAsyncIteration
        await self._aresult_step()
        return self

    async def _aresult_step(self) -> None:
        assert self._loop is not None, "The asyncio event loop was not present during creation."
        while not self._responses:
            self._waiter = self._loop.create_future()
            await self._waiter
        self._handle(self._responses.popleft())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _handle(self, response: Response) -> None:
        if response.error is not None:
            # Without the flag, who iterates again waits for ever.
            self._done = fact("errors_end_a_result")
            raise (EngineDeadError if response.fatal else RequestError)(response.error)
        executor = self._executor()
        if executor is not None:
            executor.raise_background_error()
        self._extend(self.outputs[0], response)
        self.cached_tokens = response.cached_tokens
        self._done = response.is_final

    def _extend(self, output: CompletionOutput, response: Response) -> None:
        output.token_ids.extend(response.token_ids)
        if response.logprobs is not None:
            output.logprobs = (output.logprobs or []) + _logprobs(response.logprobs)
            if len(output.logprobs) != output.length:
                raise AssertionError(f"logprobs {len(output.logprobs)} != length {output.length}")
        if response.prompt_logprobs is not None:
            output.prompt_logprobs = _logprobs(response.prompt_logprobs)
        if response.finish_reason is not None:
            self._end(output, response.finish_reason)

    def _end(self, output: CompletionOutput, reason: str) -> None:
        output.finish_reason = _REASONS[reason]
        if reason == "stop_token":
            output.stop_reason = output.token_ids[-1]
            if not self.sampling_params.include_stop_str_in_output:
                output.token_ids = output.token_ids[:-1]
                if output.logprobs is not None:
                    output.logprobs = output.logprobs[:-1]


def _logprobs(entries: list[dict[int, tuple[float, int]]]) -> list[dict[int, Logprob]]:
    return [{token: Logprob(*score) for token, score in entry.items()} for entry in entries]


def logprobs_wanted(params: Any) -> int | None:
    """How many alternatives a token gets; None for no logprobs at all."""
    if params.logprobs == 0 and not fact("logprobs_0_gives_sampled_token"):
        return None
    return params.logprobs
