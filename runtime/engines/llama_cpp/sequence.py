"""A running request inside the engine: mutable, owned by the scheduler."""

from collections.abc import Collection

import msgspec

from runtime.engines.llama_cpp.sampling.constraints import Constraints
from runtime.engines.llama_cpp.sampling.sampler import Sampler
from runtime.messages.request import FinishReason, Request, TokenLogprobs

NO_SLOT = -1


class Sequence:
    """Tokens known and tokens computed.

    `token_ids` is the prompt followed by the answer so far; the first `num_computed_tokens` of
    them are in the KV cache under `slot`. There is no phase: when a step computes a sequence's last
    known token, of the prompt or of the answer, the next token is sampled after the step.
    `end_token_ids` end the answer.

    Its prefixes are shared only with sequences of the same `cache_salt`, which is the request's own
    unless another is given.

    A sequence that scores its prompt shares no prefix, because the cache holds no logits;
    `prompt_logprobs` grow with the tokens that are computed, and the first token has none.
    """

    def __init__(
        self,
        request: Request,
        sampler: Sampler,
        max_model_len: int,
        end_token_ids: Collection[int] = (),
        steering: Constraints | None = None,
        cache_salt: str | None = None,
    ) -> None:
        self.request = request
        self.sampler = sampler
        self.steering = steering
        self.cache_salt = request.cache_salt if cache_salt is None else cache_salt
        self.token_ids = request.prompt_token_ids + request.output_token_ids
        self.num_prompt_tokens = len(request.prompt_token_ids)
        self.num_computed_tokens = 0
        self.num_cached_tokens = 0
        self.slot = NO_SLOT
        self.end_token_ids = end_token_ids
        self.scores_prompt = scores_prompt(request)
        self.prompt_logprobs: list[TokenLogprobs | None] = [None]
        self._max_num_tokens = min(
            self.num_prompt_tokens + request.sampling.max_tokens, max_model_len
        )

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_remaining_tokens(self) -> int:
        """Tokens known but not yet in the KV cache; at least one."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def rank(self) -> tuple[int, float]:
        """The lowest rank is preempted last: lower priority number first, then earlier arrival."""
        return self.request.priority, self.request.arrival_time

    def append(self, token_id: int) -> FinishReason | None:
        """Take the sampled token. Returns the finish reason if it was the last one.

        Raises InvalidRequest when the guide of a structured answer cannot go on.
        """
        reason = self._take(token_id)
        if self.steering is not None and reason != "stop":
            self.steering.push(token_id)
            return "stop" if self.steering.is_complete else reason
        return reason

    def _take(self, token_id: int) -> FinishReason | None:
        self.token_ids.append(token_id)
        if token_id in self.end_token_ids:
            return "stop"
        if len(self.token_ids) >= self._max_num_tokens:
            return "length"
        return None

    def take_prompt_logprobs(self) -> list[TokenLogprobs | None] | None:
        """The whole prompt's log-probabilities at first; None later, or if not requested."""
        if not self.scores_prompt:
            return None
        self.scores_prompt = False
        return self.prompt_logprobs

    def to_request(self) -> Request:
        """The request that goes on where this sequence stands."""
        return msgspec.structs.replace(
            self.request, output_token_ids=self.token_ids[self.num_prompt_tokens :]
        )


def scores_prompt(request: Request) -> bool:
    """Whether the log-probabilities of the prompt are still to be reported. A request that resumes
    its answer has reported them before."""
    return request.sampling.prompt_logprobs is not None and not request.output_token_ids


def end_token_ids(request: Request, eog_token_ids: frozenset[int]) -> frozenset[int]:
    """The tokens that end this request's answer."""
    sampling = request.sampling
    stop = frozenset(sampling.stop_token_ids)
    return stop if sampling.ignore_eos else stop | eog_token_ids
