"""A running request inside the engine: mutable, owned by the scheduler."""

import msgspec

from runtime.engines.llama_cpp.sampler import Sampler
from runtime.request import FinishReason, Request
from runtime.structured import Guide

NO_SLOT = -1


class Sequence:
    """Tokens known and tokens computed.

    `token_ids` is the prompt followed by the answer so far; the first `num_computed_tokens` of
    them are in the KV cache under `slot`. There is no phase: a sequence that has one token left to
    compute gets its next token sampled after the step, whether that was its prompt's last or its
    answer's.
    """

    def __init__(
        self, request: Request, sampler: Sampler, max_model_len: int, guide: Guide | None = None
    ) -> None:
        self.request = request
        self.sampler = sampler
        self.guide = guide
        self.token_ids = request.prompt_token_ids + request.output_token_ids
        self.num_prompt_tokens = len(request.prompt_token_ids)
        self.num_computed_tokens = 0
        self.num_cached_tokens = 0
        self.slot = NO_SLOT
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
        """Who gives way last: lower priority number first, then earlier arrival."""
        return self.request.priority, self.request.arrival_time

    def append(self, token_id: int, eog_token_ids: frozenset[int]) -> FinishReason | None:
        """Take the sampled token; says whether it was the last one. Raises InvalidRequest when the
        guide of a structured answer cannot go on."""
        reason = self._take(token_id, eog_token_ids)
        if self.guide is not None and reason != "stop":
            if not self.guide.is_complete:  # an end-of-sequence token that is not to end it
                self.guide.push([token_id])
            return "stop" if self.guide.is_complete else reason
        return reason

    def _take(self, token_id: int, eog_token_ids: frozenset[int]) -> FinishReason | None:
        self.token_ids.append(token_id)
        if token_id in eog_token_ids and not self.request.sampling.ignore_eos:
            return "stop"
        if len(self.token_ids) >= self._max_num_tokens:
            return "length"
        return None

    def to_request(self) -> Request:
        """The request that goes on where this sequence stands."""
        return msgspec.structs.replace(
            self.request, output_token_ids=self.token_ids[self.num_prompt_tokens :]
        )
