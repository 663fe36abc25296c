"""From logits to a token: what the samplers of the package honour, and nothing else."""

import math
from collections import Counter
from typing import Any

import numpy as np

from ...tensor import logits_tensor
from ...token_maker import TokenMaker
from ..messages import EngineRequest, WorkerConfig

_MOST_LIKELY = 64
_NEGLIGIBLE = 15.0
"""A token this far below the best one is never drawn, so that it does not matter whether all
logits or only the likely ones were looked at."""

Scores = dict[int, tuple[float, int]]


class Sampler:
    """Draws the tokens of all sequences. Where the release ignores the seeds of requests, all of
    them draw from one generator."""

    def __init__(self, config: WorkerConfig, maker: TokenMaker) -> None:
        self._config = config
        self._maker = maker
        self._num_drawn = 0

    def _seed(self, request: EngineRequest) -> int:
        self._num_drawn += 1
        return request.seed if self._config.honours_seeds else self._num_drawn

    def is_plain(self, request: EngineRequest, guided: bool) -> bool:
        """Whether the preferred token is always the answer."""
        return (
            request.greedy
            and not guided
            and not request.min_tokens
            and request.logprobs is None
            and not self._needs_all_logits(request)
        )

    def sample(self, sequence: Any) -> int:
        """The next token of a sequence, whose scores are kept if the request wants them."""
        request = sequence.request
        candidates = self._maker.candidates(sequence.cursor, sequence.num_tokens)
        early = len(sequence.tokens) < request.min_tokens
        if early or sequence.guide is not None or self._needs_all_logits(request):
            pairs = self._changed(sequence, candidates)
        else:
            pairs = list(candidates.items())
        token = _draw(pairs, request, self._seed(request), sequence.cursor.state)
        if request.logprobs is not None:
            keeps = self._config.logprobs_have_sampled_token
            sequence.logprobs.append(
                self._scores(candidates, request.logprobs, token if keeps else None)
            )
        return token

    def process_piece(self, sequence: Any) -> None:
        """What the logits processors do to the logits of a piece of the prompt, which nobody needs:
        they are called for each piece, with the whole prompt."""
        if not sequence.request.logits_processors:
            return
        candidates = self._maker.candidates(sequence.cursor, sequence.num_tokens)
        self._process(self._maker.logits(candidates), sequence)

    def prompt_scores(self, request: EngineRequest, first: int) -> list[Scores]:
        """For each prompt token from `first` on, how likely its successor was."""
        prompt = request.prompt_token_ids
        cursor = self._maker.read(prompt[:first])
        scores = []
        for position in range(first, len(prompt)):
            self._maker.push(cursor, prompt[position])
            candidates = self._maker.candidates(cursor, position + 1)
            following = prompt[position + 1] if position + 1 < len(prompt) else None
            keeps = self._config.prompt_logprobs_have_prompt_token
            scores.append(
                self._scores(candidates, request.prompt_logprobs, following if keeps else None)
            )
        return scores

    def _needs_all_logits(self, request: EngineRequest) -> bool:
        penalized = (
            request.repetition_penalty != 1
            or request.presence_penalty != 0
            or request.frequency_penalty != 0
        )
        return bool(request.logits_processors) or (self._config.honours_penalties and penalized)

    def _changed(self, sequence: Any, candidates: dict[int, float]) -> list[tuple[int, float]]:
        request = sequence.request
        logits = self._maker.logits(candidates)
        if self._config.honours_penalties:
            _penalize(logits, sequence)
        if len(sequence.tokens) < request.min_tokens:
            if request.end_id >= 0:
                logits[request.end_id] = -np.inf
            elif request.ban_last_token:
                logits[-1] = -np.inf
        self._process(logits, sequence)
        if sequence.guide is not None:
            allowed = sequence.guide.allowed()
            masked = np.full_like(logits, -np.inf)
            masked[allowed] = np.maximum(logits[allowed], -1e4)
            logits = masked
        best = _largest(logits, _MOST_LIKELY)
        return [(int(token), float(logits[token])) for token in best]

    def _process(self, logits: np.ndarray, sequence: Any) -> None:
        """Processors are left out while a paused answer is read again, and for the token that
        follows. With the overlap scheduler they do not see the newest token yet."""
        request = sequence.request
        if sequence.is_read_again:
            return
        tensor = logits_tensor(logits)
        known = sequence.tokens[:-1] if self._config.overlap_scheduler else sequence.tokens
        seen = [[*request.prompt_token_ids, *known]]
        for processor in request.logits_processors:
            processor(request.client_id, tensor, seen, None, request.client_id)

    def _scores(self, candidates: dict[int, float], top: int, token: int | None) -> Scores:
        """The `top` most likely tokens by the raw logits, and `token` when it is given."""
        normalizer = self._maker.log_normalizer(candidates)
        best = list(candidates.items())
        if top > len(best):
            logits = self._maker.logits(candidates)
            largest = _largest(logits, top)
            best = [(int(other), float(logits[other])) for other in largest]
            best.sort(key=lambda pair: (-pair[1], pair[0]))
        scores = {t: (logit - normalizer, r + 1) for r, (t, logit) in enumerate(best[:top])}
        if token is not None and token not in scores:
            logits = self._maker.logits(candidates)
            rank = int((logits > logits[token]).sum()) + 1
            scores[token] = (float(logits[token]) - normalizer, rank)
        return scores


def _largest(logits: np.ndarray, count: int) -> np.ndarray:
    """The tokens of the `count` largest logits, in no order."""
    if count >= len(logits):
        return np.arange(len(logits))
    return np.argpartition(-logits, count)[:count]


def _draw(pairs: list[tuple[int, float]], request: EngineRequest, seed: int, state: int) -> int:
    """`pairs` are tokens with logits, the likeliest first but for a bias that turned them."""
    pairs = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    if request.greedy:
        return pairs[0][0]
    if request.top_k:
        pairs = pairs[: request.top_k]
    best = pairs[0][1]
    kept = [
        (token, math.exp((logit - best) / request.temperature))
        for token, logit in pairs
        if best - logit < _NEGLIGIBLE
    ]
    kept = _nucleus(kept, request.top_p, request.min_p)
    point = _uniform(seed, state) * sum(weight for _, weight in kept)
    for token, weight in kept:
        point -= weight
        if point < 0:
            return token
    return kept[-1][0]


def _nucleus(
    weights: list[tuple[int, float]], top_p: float, min_p: float
) -> list[tuple[int, float]]:
    kept, mass = [], 0.0
    target = top_p * sum(weight for _, weight in weights)
    for token, weight in weights:
        if kept and (mass >= target or weight < min_p * weights[0][1]):
            break
        kept.append((token, weight))
        mass += weight
    return kept


def _uniform(seed: int, state: int) -> float:
    """A number in [0, 1) that the seed and the text so far decide (the mixer of SplitMix64)."""
    mask = (1 << 64) - 1
    number = (state + (seed + 1) * 0x9E3779B97F4A7C15) & mask
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) & mask
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) & mask
    return ((number ^ number >> 31) >> 11) / (1 << 53)


def _penalize(logits: np.ndarray, sequence: Any) -> None:
    """Repetition, presence and frequency penalties, each over the prompt and the answer."""
    request = sequence.request
    counts = Counter(request.prompt_token_ids[request.prompt_ignore_length :])
    counts.update(sequence.tokens)
    seen = np.fromiter(counts, dtype=np.int64, count=len(counts))
    times = np.fromiter(counts.values(), dtype=np.float32, count=len(counts))
    values = logits[seen]
    penalty = request.repetition_penalty
    values = np.where(values < 0, values * penalty, values / penalty)
    logits[seen] = values - request.presence_penalty - times * request.frequency_penalty
