"""Requests of the TensorRT-LLM engine that go on, give way, are refused or given up."""

from typing import Any

import pytest

from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.messages.structured_output import StructuredOutput
from tests.kit.engines import engine_answers
from tests.kit.models.tensorrt_model import VOCAB_SIZE
from tests.kit.tensorrt_double import EARLY, LATE
from tests.runtime.engines.tensorrt_llm.harness import (
    PLAIN,
    Make,
    expected,
    only,
    request,
    steps,
)


def test_a_request_goes_on_where_it_stood(make: Make) -> None:
    engine = make()
    tokens = expected(PLAIN, [1, 2, 3], 20)

    whole = engine_answers(
        engine,
        request("new", max_tokens=20),
        request("half", max_tokens=20, output_token_ids=tokens[:9]),
        request("done", max_tokens=20, output_token_ids=tokens),
    )

    assert whole["new"].token_ids == tokens
    assert whole["half"].token_ids == tokens[9:]
    assert (whole["done"].token_ids, whole["done"].finish_reason) == ([], "length")


@only("release", [LATE], indirect=True)
def test_a_sampled_request_that_goes_on_draws_other_numbers(make: Make) -> None:
    engine = make()
    first = engine_answers(engine, request(temperature=5.0, seed=3, max_tokens=30))["r"].token_ids
    prompt = [1, 2, 3, *first[:15]]

    again = engine_answers(
        engine,
        request("on", temperature=5.0, seed=3, max_tokens=30, output_token_ids=first[:15]),
        request("same", temperature=5.0, seed=3, max_tokens=15, prompt_token_ids=prompt),
    )

    assert again["on"].token_ids != again["same"].token_ids


def test_preemption_hands_back_a_request_that_goes_on(make: Make) -> None:
    engine = make(plan={**PLAIN, "step_ms": 1})
    tokens = expected(PLAIN, [1, 2, 3], 40)
    engine.add(request(max_tokens=40))
    seen: list[int] = []
    while len(seen) < 5:
        seen += [token for output in engine.step() for token in output.token_ids]

    engine.preempt("r")
    [back] = engine.take_preempted()

    assert engine.num_running == 0
    assert engine.take_usage().num_preempted == 1
    assert back.output_token_ids == seen
    assert engine_answers(engine, back)["r"].token_ids == tokens[len(seen) :]


def test_the_max_of_tokens_is_what_there_is_room_for(make: Make) -> None:
    engine = make(folder_model_len=64)

    answer = engine_answers(engine, request(prompt_token_ids=[1] * 50, max_tokens=1000))["r"]

    assert len(answer.token_ids) == 14
    assert answer.finish_reason == "length"
    assert engine.limits.max_model_len == 64


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt_token_ids": []}, "prompt"),
        ({"prompt_token_ids": [VOCAB_SIZE]}, "prompt"),
        ({"stop_token_ids": (-1,)}, "stop_token_ids"),
        ({"logit_bias": {VOCAB_SIZE: 1.0}}, "logit_bias"),
        ({"lora": "unknown"}, "model"),
        ({"structured_output": StructuredOutput(json="{")}, "response_format"),
        ({"top_p": 2.0, "temperature": 1.0}, None),
    ],
)
def test_a_wrong_request_is_refused_and_nothing_runs(
    make: Make, fields: dict[str, Any], param: str | None
) -> None:
    engine = make()
    with pytest.raises(InvalidRequest) as raised:
        engine.add(request(**fields))
    assert raised.value.param == param
    assert engine.num_running == 0


def test_a_prompt_that_is_too_long_is_refused(make: Make) -> None:
    engine = make(folder_model_len=64)
    with pytest.raises(ContextLengthExceeded, match="maximum context length is 64 tokens"):
        engine.add(request(prompt_token_ids=[1] * 64))


def test_without_chunks_a_prompt_has_to_fit_a_step(make: Make) -> None:
    engine = make({"enable_chunked_prefill": False, "max_num_tokens": 32})
    with pytest.raises(ContextLengthExceeded, match="room for 32"):
        engine.add(request(prompt_token_ids=[1] * 33))
    assert len(engine_answers(engine, request(prompt_token_ids=[1] * 32))["r"].token_ids) == 8


def test_prompt_tokens_found_in_the_cache_are_counted(make: Make) -> None:
    engine = make()
    prompt = list(range(100))
    engine_answers(engine, request("first", prompt_token_ids=prompt))
    engine.take_usage()

    again = engine_answers(engine, request("again", prompt_token_ids=prompt))["again"]
    salted = engine_answers(engine, request("salted", prompt_token_ids=prompt, cache_salt="x"))[
        "salted"
    ]

    usage = engine.take_usage()
    assert 0 < again.num_cached_tokens < 100
    assert salted.num_cached_tokens == 0
    assert usage.num_cached_tokens == again.num_cached_tokens
    assert usage.num_prompt_tokens == 200 - again.num_cached_tokens


def test_an_aborted_request_frees_its_place_and_says_no_more(make: Make) -> None:
    engine = make(max_num_seqs=1, plan={**PLAIN, "step_ms": 1})
    engine.add(request("first", max_tokens=2000))
    while not engine.step():
        pass
    assert not engine.can_add(request("second"))

    engine.abort("first")
    engine.abort("unknown")

    assert engine.num_running == 0
    assert set(engine_answers(engine, request("second"), request("first"))) == {"first", "second"}


def test_the_engines_queue_stays_as_short_as_its_cache(make: Make) -> None:
    """So that our own queue decides who is next (10.13)."""
    engine = make(num_kv_tokens=256)
    long = request("long", max_tokens=150)
    engine.add(long)

    assert not engine.can_add(request("other", max_tokens=100))
    assert engine.can_add(request("short", max_tokens=20))
    list(steps(engine))
    assert engine.can_add(request("other", max_tokens=100))


def test_a_prompt_too_long_to_be_scored_is_refused(make: Make) -> None:
    """Its logits would take memory that the KV cache has; without scores it is served."""
    engine = make({"prompt_logprobs_gb": 40 * VOCAB_SIZE * 8 / 1e9})
    long = [1] * 41
    with pytest.raises(
        InvalidRequest, match=r"40 tokens are possible.*prompt_logprobs_gb"
    ) as error:
        engine.add(request(prompt_token_ids=long, prompt_logprobs=0))
    assert error.value.param == "prompt_logprobs"
    assert len(engine_answers(engine, request(prompt_token_ids=long))["r"].token_ids) == 8


@only("release", [EARLY, LATE], indirect=True)
def test_prompts_are_scored_one_after_another_where_memory_is_short(make: Make) -> None:
    engine = make({"prompt_logprobs_gb": 40 * VOCAB_SIZE * 8 / 1e9})
    first, second = (request(name, prompt_token_ids=[1] * 30, prompt_logprobs=0) for name in "ab")
    engine.add(first)
    assert not engine.can_add(second)
    assert engine.can_add(request("plain", prompt_token_ids=[1] * 30))
    while not any(output.token_ids for output in engine.step()):
        pass
    assert engine.can_add(second)


def test_a_policy_that_pauses_answers_offers_no_structured_output(make: Make) -> None:
    """The package would begin the grammar of a paused answer anew."""
    engine = make({"scheduler_policy": "MAX_UTILIZATION"})
    wanted = StructuredOutput(source="response_format", json_object=True)
    with pytest.raises(InvalidRequest) as error:
        engine.add(request(structured_output=wanted))
    assert error.value.param == "response_format"
    assert len(engine_answers(engine, request())["r"].token_ids) == 8


@pytest.mark.parametrize("stream_interval", [1, 3])
def test_paused_answers_come_out_whole(make: Make, stream_interval: int) -> None:
    """With a policy that pauses answers when the cache is full. No token is lost or comes twice,
    and the pause is no hang."""
    tensorrt = {"scheduler_policy": "MAX_UTILIZATION", "no_progress_timeout": 30.0}
    engine = make(
        {**tensorrt, "extra": {"stream_interval": stream_interval}},
        plan={**PLAIN, "kv_tokens": 256},
    )
    prompts = [[number, 7] for number in range(6)]
    requests = [
        request(str(number), prompt_token_ids=prompt, max_tokens=100, logprobs=0)
        for number, prompt in enumerate(prompts)
    ]

    whole = engine_answers(engine, *requests)

    for number, prompt in enumerate(prompts):
        answer = whole[str(number)]
        assert answer.token_ids == expected(PLAIN, prompt, 100)
        assert len(answer.logprobs or []) == 100
