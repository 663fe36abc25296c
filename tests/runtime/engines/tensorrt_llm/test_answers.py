"""Tokens, ends, rules, scores and seeds of the TensorRT-LLM engine."""

from typing import Any

import pytest

from runtime.messages.request import Request
from tests.kit.engines import engine_answers
from tests.kit.models.tensorrt_model import EOS_TOKEN_ID, OTHER_EOS_TOKEN_ID
from tests.kit.tensorrt_double import EARLY, LATE, STABLE
from tests.runtime.engines.tensorrt_llm.harness import (
    PLAIN,
    Make,
    expected,
    only,
    penalised,
    request,
    steps,
)


def test_answers_are_the_packages(make: Make) -> None:
    engine = make(max_num_seqs=4)
    requests = [request(str(number), prompt_token_ids=[number, 7]) for number in range(10)]

    whole = engine_answers(engine, *requests)

    for number in range(10):
        assert whole[str(number)].token_ids == expected(PLAIN, [number, 7], 8)
        assert whole[str(number)].finish_reason == "length"
    usage = engine.take_usage()
    assert (usage.num_prompt_tokens, usage.num_generation_tokens) == (20, 80)


@pytest.mark.parametrize("in_list", [True, False])
def test_the_token_that_ends_an_answer_is_its_last(make: Make, in_list: bool) -> None:
    """Also where the package cuts it off (contract table, 3.5)."""
    plan = {**PLAIN, "eos_after": 3, "eos_in_token_ids": in_list}

    answer = engine_answers(make(plan=plan), request(max_tokens=50))["r"]

    assert answer.token_ids == [*expected(PLAIN, [1, 2, 3], 3), EOS_TOKEN_ID]
    assert answer.finish_reason == "stop"


def test_other_end_tokens_and_stop_tokens_end_an_answer(make: Make) -> None:
    """They come from the folder's generation_config.json and from the request (2.4)."""
    plan = {"say": [65, 66, OTHER_EOS_TOKEN_ID, 67, 68, 69]}
    engine = make(plan=plan)

    whole = engine_answers(
        engine,
        request("end", max_tokens=50),
        request("stop", max_tokens=50, stop_token_ids=(66,)),
        request("on", max_tokens=6, ignore_eos=True),
        request("both", max_tokens=50, ignore_eos=True, stop_token_ids=(68,)),
    )

    assert whole["end"].token_ids == [65, 66, OTHER_EOS_TOKEN_ID]
    assert whole["stop"].token_ids == [65, 66]
    assert {whole[name].finish_reason for name in ("end", "stop", "both")} == {"stop"}
    assert whole["on"].token_ids == plan["say"]
    assert whole["on"].finish_reason == "length"
    assert whole["both"].token_ids == plan["say"][:5]


def test_nothing_ends_an_answer_before_min_tokens(make: Make) -> None:
    """Also not the end tokens that the package would forget, nor with `ignore_eos`, where it bans
    a wrong one (4.4)."""
    engine = make(plan={"say": [65, OTHER_EOS_TOKEN_ID]})

    whole = engine_answers(
        engine,
        request("free", max_tokens=20),
        request("bound", max_tokens=20, min_tokens=5),
        request("ignored", max_tokens=20, min_tokens=5, ignore_eos=True),
    )

    assert len(whole["free"].token_ids) == 2
    bound = whole["bound"].token_ids
    assert len(bound) >= 5
    assert not {EOS_TOKEN_ID, OTHER_EOS_TOKEN_ID} & set(bound[:5])
    assert len(whole["ignored"].token_ids) == 20
    assert whole["ignored"].token_ids[:2] == [65, OTHER_EOS_TOKEN_ID]


@pytest.mark.parametrize(("overlaps", "length"), [(False, 3), (True, 4)])
def test_an_answer_ends_when_min_tokens_are_seen(make: Make, overlaps: bool, length: int) -> None:
    """A model that would end at once ends a token later where our processor sees tokens late."""
    engine = make({"disable_overlap_scheduler": not overlaps}, plan={**PLAIN, "eos_after": 1})

    answer = engine_answers(engine, request(min_tokens=2, max_tokens=20))["r"]

    assert len(answer.token_ids) == length
    assert answer.token_ids[-1] == EOS_TOKEN_ID
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize(
    "fields",
    [
        {"presence_penalty": 1.7},
        {"frequency_penalty": 1.1},
        {"presence_penalty": 1.0, "frequency_penalty": 0.4},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 1.3, "presence_penalty": 0.6},
    ],
)
@pytest.mark.parametrize("overlaps", [True, False])
def test_penalties_are_honoured_in_every_release(
    make: Make, release: str, fields: dict[str, float], overlaps: bool
) -> None:
    """The sampler of some ignores them without a word (4.4). Our own do not see the newest token
    where the package prepares a step during the one before."""
    prompt = list(range(90, 110))
    asked = request(prompt_token_ids=prompt, max_tokens=40, **fields)
    is_ours = release != LATE or {"repetition_penalty", "presence_penalty"} <= set(fields)

    answer = engine_answers(make({"disable_overlap_scheduler": not overlaps}), asked)["r"].token_ids

    num_unseen = int(overlaps and is_ours)
    assert answer == penalised(prompt, 40, asked.sampling, num_unseen=num_unseen)
    assert answer != expected(PLAIN, prompt, 40)


@only("release", [STABLE, LATE], indirect=True)
def test_presence_and_frequency_count_the_answer_alone_and_all_of_it(make: Make) -> None:
    """A request that goes on is penalised as if it had never been cut."""
    engine = make({"disable_overlap_scheduler": True})
    fields: dict[str, Any] = {"presence_penalty": 1.5, "frequency_penalty": 0.7}
    prompt = list(range(97, 123)) * 2

    whole = engine_answers(
        engine, request("whole", prompt_token_ids=prompt, max_tokens=24, **fields)
    )
    tokens = whole["whole"].token_ids
    cut = request(
        "cut", prompt_token_ids=prompt, max_tokens=24, output_token_ids=tokens[:10], **fields
    )

    assert engine_answers(engine, cut)["cut"].token_ids == tokens[10:]
    assert tokens[0] == expected(PLAIN, prompt, 1)[0]


def test_logit_bias_forbids_and_forces(make: Make) -> None:
    engine = make()
    first = expected(PLAIN, [1, 2, 3], 1)[0]

    whole = engine_answers(
        engine,
        request("forbid", logit_bias={first: -100.0}),
        request("force", logit_bias={7: 100.0}),
    )

    assert first not in whole["forbid"].token_ids
    assert whole["force"].token_ids == [7] * 8


@only("release", [EARLY, LATE], indirect=True)
@pytest.mark.parametrize("max_tokens", [0, 5])
def test_a_prompt_is_scored_whatever_is_cached(make: Make, max_tokens: int) -> None:
    """The double scores no tokens that it finds in its cache, as the package does (3.6)."""
    engine = make(max_num_seqs=1)
    prompt = [1, 97, 98, 200, *range(97, 117)] * 4

    def asked(name: str) -> Request:
        return request(
            name, prompt_token_ids=prompt, max_tokens=max_tokens, prompt_logprobs=2, logprobs=1
        )

    answers = engine_answers(engine, asked("cold"), asked("again"))

    cold, again = answers["cold"], answers["again"]
    assert cold.prompt_logprobs == again.prompt_logprobs
    assert cold.prompt_logprobs is not None
    assert len(cold.prompt_logprobs) == len(prompt)
    assert cold.prompt_logprobs[0] is None
    assert all(entry is not None and entry.logprob <= 0 for entry in cold.prompt_logprobs[1:])
    assert len(cold.token_ids) == len(cold.logprobs or []) == max_tokens
    assert cold.finish_reason == "length"


@only("release", [STABLE], indirect=True)
def test_a_score_that_the_release_does_not_tell_is_an_error(make: Make) -> None:
    """Of a token that is not among the likeliest (3.6); the engine goes on."""
    engine = make()
    engine.add(request("scored", prompt_token_ids=[1, 97, 250, 3], prompt_logprobs=1))
    for _ in steps(engine):
        pass

    (failed,) = engine.take_failed()
    assert "does not tell how likely" in str(failed.error)
    assert len(engine_answers(engine, request(max_tokens=3))["r"].token_ids) == 3


@pytest.mark.parametrize("wanted", [0, 1, 3])
def test_each_token_has_its_logprobs(make: Make, wanted: int) -> None:
    """0 is "the token alone" with us and "none" in some releases (3.6)."""
    answer = engine_answers(
        make(), request(logprobs=wanted, temperature=1.5, seed=5, max_tokens=30)
    )["r"]

    assert answer.logprobs is not None
    assert len(answer.logprobs) == len(answer.token_ids)
    for token, entry in zip(answer.token_ids, answer.logprobs, strict=True):
        assert len(entry.top) == wanted
        assert [logprob for _, logprob in entry.top] == sorted(
            (logprob for _, logprob in entry.top), reverse=True
        )
        assert entry.logprob <= 0
        if token in dict(entry.top):
            assert dict(entry.top)[token] == entry.logprob


@only("release", [LATE], indirect=True)
def test_sampling_follows_the_seed(make: Make) -> None:
    """Earlier releases ignore the seeds of requests (docs/tensorrt-llm-contract.md, 10.6)."""
    engine = make()
    sampled = [
        request(f"{seed}{take}", temperature=2.0, seed=seed, max_tokens=20)
        for seed in (1, 2)
        for take in "ab"
    ]

    whole = engine_answers(engine, *sampled, request("greedy", max_tokens=20))

    assert whole["1a"].token_ids == whole["1b"].token_ids
    assert whole["1a"].token_ids != whole["2a"].token_ids
    assert whole["greedy"].token_ids == expected(PLAIN, [1, 2, 3], 20)


@pytest.mark.parametrize("min_tokens", [0, 6])
def test_stop_tokens_end_an_answer_that_ignores_end_tokens(make: Make, min_tokens: int) -> None:
    """In all releases, and the model's other end tokens do not end it."""
    tokens = expected(PLAIN, [1, 2, 3], 40)
    stop = tokens[9]
    engine = make()
    answers = engine_answers(
        engine,
        request(
            max_tokens=40,
            ignore_eos=True,
            stop_token_ids=(stop,),
            min_tokens=min_tokens,
            logprobs=0,
        ),
        request("beside", max_tokens=40),
    )

    first = next(i for i, token in enumerate(tokens) if token == stop and i >= min_tokens)
    answer = answers["r"]
    assert answer.token_ids == tokens[: first + 1]
    assert len(answer.logprobs or []) == first + 1
    assert answer.finish_reason == "stop"
    assert answers["beside"].token_ids == tokens
    assert not engine.num_running
