"""Choosing tokens: each filter against its definition, and draws that can be repeated."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engines.llama_cpp.sampling.sampler import Sampler
from runtime.engines.llama_cpp.sampling.top_k import top_token_ids
from runtime.messages.request import SamplingParams

LOGITS = np.log(np.array([0.5, 0.25, 0.125, 0.0625, 0.0625], dtype=np.float32))


def params(**fields: object) -> SamplingParams:
    return SamplingParams(max_tokens=100, **fields)  # type: ignore[arg-type]


def draws(logits: np.ndarray, count: int, **fields: object) -> Counter[int]:
    sampler = Sampler(params(**fields))
    return Counter(sampler.sample(logits) for _ in range(count))


def expected_probabilities(logits: np.ndarray, sampling: SamplingParams) -> np.ndarray:
    """Temperature, top-k, top-p, min-p, one after the other over the whole sorted vocabulary."""
    scaled = logits.astype(np.float64) / sampling.temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    keep = np.zeros(len(logits), dtype=bool)
    chosen = order[: sampling.top_k] if sampling.top_k else order
    kept = probabilities[chosen] / probabilities[chosen].sum()
    before = np.cumsum(kept) - kept
    chosen = chosen[(before < sampling.top_p) | (np.arange(len(chosen)) == 0)]
    chosen = chosen[probabilities[chosen] >= sampling.min_p * probabilities.max()]
    keep[chosen] = True
    return np.where(keep, probabilities, 0) / probabilities[keep].sum()


def test_greedy_takes_the_likeliest_and_the_lowest_id_among_equals():
    assert draws(np.array([1, 3, 3, 0], dtype=np.float32), 5, temperature=0.0) == {1: 5}


def test_frequencies_follow_the_probabilities():
    counts = draws(LOGITS, 8000, temperature=1.0, seed=1)

    assert [counts[i] / 8000 for i in range(5)] == pytest.approx(
        [0.5, 0.25, 0.125, 0.0625, 0.0625], abs=0.02
    )


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 1}, {0}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.0}, {0}),
        ({"min_p": 0.2}, {0, 1, 2}),
        ({"top_k": 4, "top_p": 0.99, "min_p": 0.3}, {0, 1}),
    ],
)
def test_filters_leave_what_they_should(fields: dict[str, float], allowed: set[int]):
    assert set(draws(LOGITS, 500, temperature=1.0, seed=5, **fields)) == allowed


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    size=st.integers(1, 1500),
    spread=st.sampled_from([0.0, 1.0, 5.0, 40.0]),
    temperature=st.sampled_from([1e-6, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 5, 1000]),
    top_p=st.sampled_from([0.0, 0.3, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.00001, 0.1, 1.0]),
)
def test_a_draw_is_the_inverse_of_the_filtered_distribution(
    seed: int,
    size: int,
    spread: float,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
):
    """No token is drawn that the definition rules out by more than rounding."""
    logits = np.random.default_rng(seed).normal(0, spread, size).astype(np.float32)
    sampling = params(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    looser = msgspec.structs.replace(sampling, top_p=min(1.0, top_p + 1e-3), min_p=min_p * 0.999)
    allowed = expected_probabilities(logits, looser) > 0
    least_likely = logits[allowed].min() - 1e-3 * temperature
    sampler = Sampler(sampling)

    for _ in range(5):
        assert logits[sampler.sample(logits)] >= least_likely


def test_unlikely_tokens_are_drawn_as_often_as_they_should():
    """One token, and two thousand of which each is 20,000 times less likely: together they have
    one part in eleven."""
    logits = np.full(2001, -np.log(20_000), dtype=np.float32)
    logits[0] = 0

    sampler = Sampler(params(temperature=1.0, seed=3))
    drawn = [token for token in (sampler.sample(logits) for _ in range(6000)) if token]

    assert len(drawn) / 6000 == pytest.approx(1 / 11, abs=0.015)
    assert len(set(drawn)) > 0.8 * len(drawn)


def test_impossible_tokens_are_never_drawn():
    logits = np.full(1000, -np.inf, dtype=np.float32)
    logits[[3, 900]] = 0.0

    assert set(draws(logits, 200, temperature=1.0, seed=9)) == {3, 900}


def test_a_little_rounding_seldom_changes_what_is_drawn():
    """Over a nearly flat distribution, where a walk along summed probabilities would end up
    somewhere else nearly every time."""
    logits = np.random.default_rng(1).normal(0, 1, 5000).astype(np.float32)
    nudged = logits + np.random.default_rng(2).normal(0, 0.01, 5000).astype(np.float32)
    one = Sampler(params(temperature=1.5, seed=8))
    other = Sampler(params(temperature=1.5, seed=8))

    same = [one.sample(logits) == other.sample(nudged) for _ in range(300)]

    assert sum(same) > 285


def test_a_seed_repeats_and_another_one_differs():
    logits = np.zeros(1000, dtype=np.float32)

    def say(seed: int) -> list[int]:
        sampler = Sampler(params(temperature=1.0, seed=seed))
        return [sampler.sample(logits) for _ in range(10)]

    assert say(7) == say(7)
    assert say(7) != say(8)


@pytest.mark.parametrize("num_told", range(6))
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_resumed_answer_goes_on_as_it_would_have(num_told: int, temperature: float):
    """Penalties and random numbers continue where the answer was cut."""
    logits = np.random.default_rng(0).normal(0, 1, 50).astype(np.float32)
    sampling = params(temperature=temperature, seed=4, frequency_penalty=1.5, presence_penalty=0.5)
    sampler = Sampler(sampling)
    whole = [sampler.sample(logits) for _ in range(6)]

    resumed = Sampler(sampling, whole[:num_told])

    assert [resumed.sample(logits) for _ in range(6 - num_told)] == whole[num_told:]


def test_penalties_count_each_time_and_leave_the_logits_alone():
    logits = np.array([3.0, 2.5, 0.0], dtype=np.float32)
    sampler = Sampler(params(temperature=0.0, frequency_penalty=0.3, presence_penalty=0.1))

    assert [sampler.sample(logits) for _ in range(3)] == [0, 0, 1]
    assert logits.tolist() == [3.0, 2.5, 0.0]


@settings(max_examples=200, deadline=None)
@given(
    logits=st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=700),
    top_k=st.integers(1, 750),
)
def test_top_k_is_the_beginning_of_the_sorted_vocabulary(logits: list[float], top_k: int):
    """Equal logits by id, whatever their place."""
    array = np.array(logits, dtype=np.float32)
    expected = np.argsort(-array, kind="stable")[:top_k]

    assert top_token_ids(array, top_k).tolist() == expected.tolist()
