"""Choosing the next token from the model's logits, one sampler for each sequence.

Penalties, temperature, top-k, top-p, min-p, then the draw. The random number of the k-th token
depends on the seed and on k alone: a sequence that is preempted, or resumed in another process,
draws what it would have drawn. In numpy, because llama.cpp's sampler chain builds a list of 12
bytes for each token of the vocabulary first (docs/performance.md has both times).
"""

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from runtime.request import SamplingParams

Floats: TypeAlias = npt.NDArray[np.float32]
TokenIds: TypeAlias = npt.NDArray[np.intp]

BLOCK = 512
"""Probabilities that are added up at once: a running sum over the whole vocabulary costs more than
everything else together."""

LIKELY = 1e-4
"""Tokens less likely than this, relative to the likeliest, are looked at only when the others do
not fill top-p."""


class Sampler:
    """`output_token_ids` are tokens that a resumed sequence brings along."""

    def __init__(self, params: SamplingParams, output_token_ids: Sequence[int] = ()) -> None:
        self._params = params
        self._num_sampled = len(output_token_ids)
        self._has_penalties = bool(params.presence_penalty or params.frequency_penalty)
        self._counts = Counter(output_token_ids if self._has_penalties else ())

    def sample(self, logits: Floats) -> int:
        """The next token. `logits` has one value for each token of the vocabulary."""
        token_id = self._choose(self._penalised(logits) if self._counts else logits)
        self._num_sampled += 1
        if self._has_penalties:
            self._counts[token_id] += 1
        return token_id

    def _choose(self, logits: Floats) -> int:
        params = self._params
        if params.temperature == 0:
            return int(logits.argmax())
        weights = _softmax_weights(logits, params.temperature)
        if params.top_k or params.top_p < 1 or params.min_p:
            token_ids = _candidates(weights, params)
            weights = weights[token_ids]
            index, _ = _locate(weights, self._random() * float(weights.sum(dtype=np.float64)))
            return int(token_ids[index])
        return _draw_from_all(weights, self._random())

    def _penalised(self, logits: Floats) -> Floats:
        """OpenAI's penalties: they look at generated tokens only."""
        params = self._params
        token_ids = np.fromiter(self._counts, dtype=np.intp)
        counts = np.fromiter(self._counts.values(), dtype=np.float32)
        penalised = logits.copy()
        penalised[token_ids] -= params.frequency_penalty * counts + params.presence_penalty
        return penalised

    def _random(self) -> float:
        """Uniform in [0, 1), by a generator whose state is a counter (Philox)."""
        generator = np.random.Philox(key=self._params.seed, counter=self._num_sampled)
        return float(np.random.Generator(generator).random())


def _softmax_weights(logits: Floats, temperature: float) -> Floats:
    """Probabilities times a constant: the likeliest token has 1."""
    weights: Floats = logits - logits.max()
    with np.errstate(over="ignore", under="ignore"):
        weights /= np.float32(temperature)
        np.exp(weights, out=weights)
    return weights


def _candidates(weights: Floats, params: SamplingParams) -> TokenIds:
    """The tokens that pass top-k, top-p and min-p, likeliest first. Each of the three keeps the
    beginning of the sorted list."""
    token_ids = _likeliest(weights, params)
    if params.top_k:
        token_ids = token_ids[: params.top_k]
    sorted_weights = weights[token_ids].astype(np.float64)
    total = sorted_weights.sum() if params.top_k else weights.sum(dtype=np.float64)
    before = np.cumsum(sorted_weights) - sorted_weights
    keep = (before < params.top_p * total) & (sorted_weights >= params.min_p)
    keep[0] = True
    kept: TokenIds = token_ids[keep]
    return kept


def _likeliest(weights: Floats, params: SamplingParams) -> TokenIds:
    """Token ids sorted by weight, equal ones by id; as many as the filters can ask for."""
    token_ids = np.flatnonzero(weights >= LIKELY)
    enough_for_k = params.top_k and token_ids.size >= params.top_k
    wanted = params.top_p * weights.sum(dtype=np.float64)
    enough_for_p = params.top_p < 1 and weights[token_ids].sum(dtype=np.float64) >= wanted
    if not (enough_for_k or enough_for_p or params.min_p >= LIKELY):
        token_ids = np.arange(weights.size)
    return token_ids[np.argsort(-weights[token_ids], kind="stable")]


def _draw_from_all(weights: Floats, random: float) -> int:
    """A token by its weight: first its block, then the token in it."""
    blocks = np.add.reduceat(weights, np.arange(0, weights.size, BLOCK))
    block, rest = _locate(blocks, random * float(blocks.sum(dtype=np.float64)))
    start = block * BLOCK
    token_id, _ = _locate(weights[start : start + BLOCK], rest)
    return start + token_id


def _locate(weights: Floats, point: float) -> tuple[int, float]:
    """Where `point` falls when the weights lie end to end: the index, and how far into it. Never on
    a weight of 0, even where rounding puts the point past the end."""
    sums = np.cumsum(weights, dtype=np.float64)
    index = int(np.searchsorted(sums, point, side="right"))
    index = min(index, int(np.searchsorted(sums, sums[-1], side="left")))
    return index, point - float(sums[index] - weights[index])
