"""Changes to a model's logits before a token is chosen from them."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from runtime.engines.llama_cpp.sampling.top_k import Floats
from runtime.messages.request import SamplingParams

FORBIDDEN = np.float32(-1e30)
"""The logit of a banned token. It is finite, and no penalty or temperature makes it infinite: if
all tokens are banned, one of them must still be chosen."""


MANY_BIASED = 4_096
"""A `logit_bias` of so many tokens is kept as a row that has a value for each token."""


class LogitRules:
    """In vLLM's order: no end before `min_tokens`, then bias, then penalties.

    `output_token_ids` are tokens that a resumed sequence brings along; presence and frequency
    penalties look at them and at what is sampled later, the repetition penalty at the prompt too.
    `end_token_ids` are all tokens that would end the answer.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_token_ids: Sequence[int],
        output_token_ids: Sequence[int],
        end_token_ids: Iterable[int],
    ) -> None:
        self._params = params
        self._num_output_tokens = len(output_token_ids)
        self._ends = np.array(sorted(end_token_ids) if params.min_tokens else (), dtype=np.intp)
        self._biased = np.fromiter(params.logit_bias, dtype=np.intp)
        self._bias = np.fromiter(params.logit_bias.values(), dtype=np.float32)
        self._bias_row: Floats | None = None
        self._counts_tokens = bool(params.presence_penalty or params.frequency_penalty)
        self._counts = Counter(output_token_ids if self._counts_tokens else ())
        self._looks_back = params.repetition_penalty != 1.0
        known = [*prompt_token_ids, *output_token_ids] if self._looks_back else []
        self._seen = np.unique(np.array(known, dtype=np.intp))

    def apply(self, logits: Floats) -> Floats:
        """The logits to choose from: a copy, or the same array where nothing changes."""
        must_go_on = self._ends.size and self._num_output_tokens < self._params.min_tokens
        if not (must_go_on or self._biased.size or self._seen.size or self._counts):
            return logits
        edited = logits.copy()
        if must_go_on:
            edited[self._ends] = FORBIDDEN
        if self._biased.size:
            self._add_bias(edited)
        if self._seen.size:
            self._punish_repetition(edited)
        if self._counts:
            self._punish_counts(edited)
        return edited

    def take(self, token_id: int) -> None:
        """A token has been chosen."""
        self._num_output_tokens += 1
        if self._counts_tokens:
            self._counts[token_id] += 1
        if self._looks_back:
            place = int(np.searchsorted(self._seen, token_id))
            if place == self._seen.size or self._seen[place] != token_id:
                self._seen = np.insert(self._seen, place, token_id)

    def _add_bias(self, logits: Floats) -> None:
        """Add `logit_bias`; one that names many tokens as a whole row, which is much faster."""
        if self._biased.size < MANY_BIASED:
            logits[self._biased] += self._bias
            return
        if self._bias_row is None:
            self._bias_row = np.zeros_like(logits)
            self._bias_row[self._biased] = self._bias
        logits += self._bias_row

    def _punish_repetition(self, logits: Floats) -> None:
        """Divide the positive logits of tokens that have occurred, multiply their negative ones."""
        penalty = np.float32(self._params.repetition_penalty)
        values = logits[self._seen]
        logits[self._seen] = np.where(values > 0, values / penalty, values * penalty)

    def _punish_counts(self, logits: Floats) -> None:
        """OpenAI's penalties."""
        token_ids = np.fromiter(self._counts, dtype=np.intp)
        counts = np.fromiter(self._counts.values(), dtype=np.float32)
        params = self._params
        logits[token_ids] -= params.frequency_penalty * counts + params.presence_penalty
