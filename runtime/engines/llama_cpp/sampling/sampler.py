"""Choosing the next token from the model's logits, one sampler for each sequence.

`logit_rules`, temperature, top-k, top-p, min-p, then the draw: a race in which every token starts
with a random number that depends on the seed, on the token's id and on its place in the answer
alone, and the likelier one runs the faster (the exponential, or Gumbel, trick). So a sequence that
is preempted, or resumed in another process, draws what it would have drawn; and where rounding
moves the probabilities a little, the same token nearly always wins, which a walk along the summed
probabilities would not give.

In numpy, because llama.cpp's sampler chain builds a list of 12 bytes for each token of the
vocabulary first (docs/performance.md has both times).
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from runtime.engines.llama_cpp.sampling.logit_rules import LogitRules
from runtime.engines.llama_cpp.sampling.top_k import Floats, TokenIds, top_token_ids
from runtime.messages.request import SamplingParams

Flags: TypeAlias = npt.NDArray[np.bool_]

LIKELY = 1e-4
"""Tokens less likely than this, relative to the likeliest, are looked at only when the others do
not fill top-p, or when they win the draw as a group."""

MIN_TEMPERATURE = 1e-7
"""Below this the likeliest token is taken: 32-bit floats could not hold the quotients."""


class Sampler:
    """`output_token_ids` are tokens that a resumed sequence brings along, `end_token_ids` those
    that end the answer."""

    def __init__(
        self,
        params: SamplingParams,
        output_token_ids: Sequence[int] = (),
        *,
        prompt_token_ids: Sequence[int] = (),
        end_token_ids: Iterable[int] = (),
    ) -> None:
        self._params = params
        self._num_sampled = len(output_token_ids)
        self._rules = LogitRules(params, prompt_token_ids, output_token_ids, end_token_ids)

    def sample(self, logits: Floats, allowed: Flags | None = None) -> int:
        """The next token. `logits` has one value for each token of the vocabulary; of these only
        the `allowed` ones can come, and there is one at least."""
        logits = self._rules.apply(logits)
        token_id = self._choose(logits if allowed is None else _masked(logits, allowed))
        self.take(token_id)
        return token_id

    def take(self, token_id: int) -> None:
        """A token has been chosen, by `sample` or by other code."""
        self._num_sampled += 1
        self._rules.take(token_id)

    def _choose(self, logits: Floats) -> int:
        params = self._params
        if params.temperature < MIN_TEMPERATURE:
            return int(logits.argmax())
        if params.top_k:
            token_ids = top_token_ids(logits, params.top_k)
            weights = _softmax_weights(logits[token_ids], params.temperature)
            return self._draw_passing(token_ids, weights, weights.sum(dtype=np.float64))
        weights = _softmax_weights(logits, params.temperature)
        if params.top_p < 1 or params.min_p:
            token_ids = _likeliest(weights, params)
            total = weights.sum(dtype=np.float64)
            return self._draw_passing(token_ids, weights[token_ids], total)
        return self._draw_from_all(weights)

    def _draw_from_all(self, weights: Floats) -> int:
        """All unlikely tokens run as one; if that one wins, they run among themselves."""
        token_ids = np.flatnonzero(weights >= LIKELY)
        rest = float(weights.sum(dtype=np.float64) - weights[token_ids].sum(dtype=np.float64))
        times = self._times(token_ids) / weights[token_ids]
        if rest > 0 and self._times(np.array([weights.size]))[0] / rest < times.min():
            unlikely = np.flatnonzero((weights < LIKELY) & (weights > 0))
            if unlikely.size:
                return self._draw(unlikely, weights[unlikely])
        return int(token_ids[times.argmin()])

    def _draw_passing(self, token_ids: TokenIds, weights: Floats, total: np.float64) -> int:
        """Draw from the beginning of a list, likeliest first, that passes top-p and min-p. `total`
        is the weight of all tokens that top-p is a share of."""
        exact = weights.astype(np.float64)
        before = np.cumsum(exact) - exact
        keep = (before < self._params.top_p * total) & (exact >= self._params.min_p)
        keep[0] = True
        return self._draw(token_ids[keep], weights[keep])

    def _draw(self, token_ids: TokenIds, weights: Floats) -> int:
        with np.errstate(divide="ignore"):  # an impossible token never arrives
            times = self._times(token_ids) / weights
        return int(token_ids[times.argmin()])

    def _times(self, token_ids: TokenIds) -> npt.NDArray[np.float64]:
        """One exponentially distributed number for each token id."""
        key = _mix(np.array([self._params.seed], dtype=np.uint64))
        key = _mix(key ^ np.uint64(self._num_sampled))
        bits = _mix(key ^ token_ids.astype(np.uint64))
        uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        times: npt.NDArray[np.float64] = -np.log(uniform)
        return times


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The output of splitmix64 for a state: 64 bits that look random (Steele, Lea, Flood: Fast
    Splittable Pseudorandom Number Generators, 2014). Computed for the ids that are needed alone,
    where numpy's generators would fill the whole vocabulary."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _masked(logits: Floats, allowed: Flags) -> Floats:
    """Logits in which what is not allowed is impossible. A model may compute more logits than it
    has tokens."""
    num_known = min(logits.size, allowed.size)
    masked = np.full_like(logits, -np.inf)
    np.copyto(masked[:num_known], logits[:num_known], where=allowed[:num_known])
    return masked


def _softmax_weights(logits: Floats, temperature: float) -> Floats:
    """Probabilities times a constant: the likeliest token has 1."""
    weights: Floats = logits - logits.max()
    with np.errstate(over="ignore", under="ignore"):
        weights /= np.float32(temperature)
        np.exp(weights, out=weights)
    return weights


def _likeliest(weights: Floats, params: SamplingParams) -> TokenIds:
    """Token ids sorted by weight, equal ones by id; as many as top-p and min-p can ask for."""
    token_ids = np.flatnonzero(weights >= LIKELY)
    wanted = params.top_p * weights.sum(dtype=np.float64)
    enough_for_p = params.top_p < 1 and weights[token_ids].sum(dtype=np.float64) >= wanted
    if not (enough_for_p or params.min_p >= LIKELY):
        token_ids = np.arange(weights.size)
    return token_ids[np.argsort(-weights[token_ids], kind="stable")]
