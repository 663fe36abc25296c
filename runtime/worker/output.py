"""Token ids to text deltas and finish reasons: the only loop over a step's outputs."""

from collections.abc import Sequence

from msgspec import Struct

from runtime.engines.base import SequenceOutput
from runtime.messages.request import Request, RequestOutput
from runtime.text.detokenizer import Detokenizer
from runtime.text.stop import StopChecker
from runtime.tokenizers.tokenizer import Tokenizer


class ProcessedStep(Struct, frozen=True):
    """`stopped` lists the sequences that a stop string ended. The engine still runs them."""

    outputs: list[RequestOutput]
    stopped: list[str]


class _TextState:
    """Text of one request. The emitted text depends on the tokens alone, not on their division
    into steps, so a resumed request continues exactly where its client's text ends."""

    def __init__(
        self, request: Request, tokenizer: Tokenizer, seconds_queued: float | None
    ) -> None:
        sampling = request.sampling
        self._seconds_queued = seconds_queued
        self.detokenizer = Detokenizer(tokenizer, sampling.shown_token_ids)
        self._include = sampling.include_stop_str_in_output
        stop = sampling.stop
        self.stop = StopChecker(stop, include=self._include) if stop else None
        self.stop_token_ids = frozenset(sampling.stop_token_ids)
        self._num_unchecked = sampling.min_tokens if sampling.stop else 0
        self.push(request.output_token_ids)

    @property
    def matched(self) -> str | None:
        return None if self.stop is None else self.stop.matched

    def take_seconds_queued(self) -> float | None:
        """Seconds from the request's arrival to its admission. Later calls return None."""
        seconds_queued, self._seconds_queued = self._seconds_queued, None
        return seconds_queued

    def push(self, token_ids: Sequence[int]) -> str:
        if self._num_unchecked:
            return self._push_unchecked(token_ids)
        text = self.detokenizer.push(token_ids)
        return text if self.stop is None else self.stop.push(text)

    def _push_unchecked(self, token_ids: Sequence[int]) -> str:
        """Push without a stop check for tokens up to `min_tokens`; the rest are checked."""
        free, checked = token_ids[: self._num_unchecked], token_ids[self._num_unchecked :]
        self._num_unchecked -= len(free)
        text = self.detokenizer.push(free)
        return text + self.push(checked) if checked else text

    def push_last(self, token_ids: Sequence[int]) -> str:
        """Push tokens whose last one is a stop token. The stop token is counted, but is part of
        the text only with `include_stop_str_in_output`."""
        return self.push(token_ids if self._include else token_ids[:-1])

    def flush(self) -> str:
        """The text still held back, at the end of the generation."""
        return "" if self.stop is None else self.stop.flush()


class OutputProcessor:
    """Holds a `_TextState` for every request between `add` and its end or `remove`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._states: dict[str, _TextState] = {}

    def add(self, request: Request, seconds_queued: float | None = None) -> None:
        """Start a request that was admitted `seconds_queued` after its arrival. The output tokens
        of a resumed request emit no text again."""
        self._states[request.request_id] = _TextState(request, self._tokenizer, seconds_queued)

    def has(self, request_id: str) -> bool:
        """Whether the request has been started and not ended."""
        return request_id in self._states

    def remove(self, request_id: str) -> None:
        """Forget a request. Unknown ids are ignored."""
        self._states.pop(request_id, None)

    def process(self, outputs: Sequence[SequenceOutput]) -> ProcessedStep:
        """Returns one delta for every output of the step."""
        step = ProcessedStep([], [])
        for output in outputs:
            delta = self._delta(output)
            step.outputs.append(delta)
            if delta.finish_reason is not None:
                del self._states[output.request_id]
                if output.finish_reason is None:
                    step.stopped.append(output.request_id)
        return step

    def _delta(self, output: SequenceOutput) -> RequestOutput:
        state = self._states[output.request_id]
        finish_reason = output.finish_reason
        stop_token = _stop_token(output, state.stop_token_ids)
        push = state.push if stop_token is None else state.push_last
        text = push(output.token_ids)
        if finish_reason is not None and state.matched is None:
            text += state.flush()
        if state.matched is not None:
            finish_reason = "stop"
        return RequestOutput(
            output.request_id,
            output.token_ids,
            text,
            finish_reason,
            state.matched if state.matched is not None else stop_token,
            output.num_cached_tokens,
            output.logprobs,
            output.prompt_logprobs,
            state.take_seconds_queued(),
        )


def _stop_token(output: SequenceOutput, stop_token_ids: frozenset[int]) -> int | None:
    """The token of the request's own `stop_token_ids` that ended the sequence, if one did."""
    if not stop_token_ids or output.finish_reason != "stop" or not output.token_ids:
        return None
    last = output.token_ids[-1]
    return last if last in stop_token_ids else None
