"""What changes logits before a token is chosen: against the definitions, and when resumed."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engines.llama_cpp.sampling.logit_rules import FORBIDDEN, LogitRules
from runtime.engines.llama_cpp.sampling.logprobs import token_logprobs
from runtime.engines.llama_cpp.sampling.sampler import Sampler
from runtime.messages.request import SamplingParams

SIZE = 12
ENDS = frozenset({3, 7})

tokens = st.lists(st.integers(0, SIZE - 1), max_size=8)
rules = st.fixed_dictionaries(
    {
        "presence_penalty": st.sampled_from([0.0, 0.5, -1.0]),
        "frequency_penalty": st.sampled_from([0.0, 0.25, -2.0]),
        "repetition_penalty": st.sampled_from([1.0, 1.5, 0.5]),
        "min_tokens": st.integers(0, 5),
        "logit_bias": st.dictionaries(st.integers(0, SIZE - 1), st.sampled_from([-100.0, 3.0])),
    }
)


def logits_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, SIZE).astype(np.float32)


def expected(
    logits: np.ndarray, params: SamplingParams, prompt: list[int], output: list[int]
) -> list[float]:
    """One token after another, as vLLM defines it."""
    changed = []
    for token, logit in enumerate(logits.tolist()):
        if len(output) < params.min_tokens and token in ENDS:
            logit = float(FORBIDDEN)
        logit += params.logit_bias.get(token, 0.0)
        if token in prompt or token in output:
            factor = params.repetition_penalty
            logit = logit / factor if logit > 0 else logit * factor
        count = output.count(token)
        logit -= params.frequency_penalty * count + params.presence_penalty * (count > 0)
        changed.append(logit)
    return changed


@given(rules, tokens, tokens, st.integers(0, 50))
def test_rules_follow_their_definitions(fields, prompt, output, seed):
    """Whether the answer's tokens were brought along or taken one by one; the logits stay."""
    params = SamplingParams(max_tokens=10, **fields)
    logits = logits_of(seed)
    want = expected(logits, params, prompt, output)
    for num_brought in (0, len(output) // 2, len(output)):
        rules = LogitRules(params, prompt, output[:num_brought], ENDS)
        for token in output[num_brought:]:
            rules.take(token)

        assert rules.apply(logits).tolist() == pytest.approx(want, rel=1e-5, abs=1e-5)
        assert logits.tolist() == logits_of(seed).tolist()


@given(st.dictionaries(st.integers(0, SIZE - 1), st.floats(-100, 100, width=32)), st.integers(0, 9))
def test_a_bias_of_many_tokens_is_the_same_bias(bias, seed):
    """A row of values or single ones; at the first token and at later ones."""
    few = LogitRules(SamplingParams(max_tokens=9, logit_bias=bias), [], [], ENDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.engines.llama_cpp.sampling.logit_rules.MANY_BIASED", 0)
        many = LogitRules(SamplingParams(max_tokens=9, logit_bias=bias), [], [], ENDS)
        for step in range(2):
            logits = logits_of(seed + step)
            assert many.apply(logits).tolist() == few.apply(logits).tolist()


def test_nothing_to_do_costs_nothing():
    """Without rules there is no copy of the vocabulary, and with `min_tokens` none after them."""
    logits = logits_of(0)
    plain = LogitRules(SamplingParams(max_tokens=1), [1], [2], ENDS)
    done = LogitRules(SamplingParams(max_tokens=1, min_tokens=1), [1], [2], ENDS)

    assert plain.apply(logits) is logits
    assert done.apply(logits) is logits


@settings(max_examples=50, deadline=None)
@given(rules, tokens, st.integers(0, 50), st.integers(0, 6))
def test_a_resumed_answer_goes_on_under_the_same_rules(fields, prompt, seed, num_told):
    """All rules together, sampled: what comes after the cut is what would have come."""
    params = SamplingParams(max_tokens=10, temperature=0.8, seed=seed, **fields)
    steps = [logits_of(seed + step) for step in range(6)]
    whole_sampler = Sampler(params, prompt_token_ids=prompt, end_token_ids=ENDS)
    whole = [whole_sampler.sample(logits) for logits in steps]

    resumed = Sampler(params, whole[:num_told], prompt_token_ids=prompt, end_token_ids=ENDS)

    assert [resumed.sample(logits) for logits in steps[num_told:]] == whole[num_told:]
    assert not ENDS & set(whole[: params.min_tokens])


@given(st.integers(0, 1000), st.integers(0, SIZE - 1), st.integers(0, SIZE))
def test_logprobs_are_those_of_the_whole_vocabulary(seed, token, num_top):
    """Against a softmax in full, with ties in the ranks."""
    logits = np.round(logits_of(seed))
    wide = logits.astype(np.float64)
    exact = wide - np.log(np.exp(wide).sum())
    entry = token_logprobs(logits, token, num_top)

    order = np.argsort(-exact, kind="stable")[:num_top].tolist()
    assert entry.logprob == pytest.approx(exact[token], abs=1e-5)
    assert entry.rank == 1 + sum(other > exact[token] for other in exact)
    assert [other for other, _ in entry.top] == order
    assert [logprob for _, logprob in entry.top] == pytest.approx(exact[order], abs=1e-5)


def test_logprobs_cross_the_border():
    """What is impossible has a logarithm of minus infinity, also as msgpack."""
    logits = np.array([0.0, -np.inf], dtype=np.float32)
    entry = token_logprobs(logits, 1, 2)

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=type(entry)) == entry
    assert entry.logprob == -np.inf
    assert entry.top[0] == (0, 0.0)


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 2e-7, 1.0, 2.0])
@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.1}])
def test_no_request_can_leave_a_sampler_without_a_token(temperature, penalty, filters):
    """Everything forbidden, biased and penalised at once, at temperatures that round to nothing."""
    params = SamplingParams(
        max_tokens=9,
        min_tokens=9,
        temperature=temperature,
        repetition_penalty=penalty,
        frequency_penalty=2.0,
        logit_bias=dict.fromkeys(range(SIZE), -100.0),
        **filters,
    )
    for ends in (range(SIZE), range(1, SIZE)):
        sampler = Sampler(params, prompt_token_ids=range(SIZE), end_token_ids=ends)
        drawn = [sampler.sample(logits_of(step)) for step in range(5)]

        assert all(0 <= token < SIZE for token in drawn)
        if len(ends) < SIZE:
            assert set(drawn) == {0}
