"""The TensorRT-LLM engine in process, against the double of each release."""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from runtime import (
    ContextLengthExceeded,
    EngineConfig,
    InvalidRequest,
    Request,
    SamplingParams,
    SetupError,
    StructuralTag,
    StructuredOutput,
    TagStructure,
    TensorRTConfig,
    load_tokenizer,
)
from runtime.core import EngineCore
from runtime.engines import create_engine
from runtime.engines.base import Engine, SequenceOutput
from runtime.errors import EngineFatal, MissingExtra
from runtime.messages import RequestFailed, StepOutput
from tests.tensorrt_double import RELEASES, double_of
from tests.tensorrt_model import (
    EOS_TOKEN_ID,
    OTHER_EOS_TOKEN_ID,
    VOCAB_SIZE,
    write_tensorrt_model,
)

PLAIN: dict[str, Any] = {"script": list(range(97, 123))}

Make = Callable[..., Engine]


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> Iterator[str]:
    """Imports of tensorrt_llm find the double of this release."""
    with double_of(request.param):
        yield request.param


only = pytest.mark.parametrize
"""`only("release", ["1.2"], indirect=True)` runs a test against one release."""


@pytest.fixture
def make(release: str, tmp_path: Path) -> Iterator[Make]:
    """Makes engines; what is a key of `Plan` goes to the double."""
    engines: list[Engine] = []

    def make_engine(tensorrt: dict[str, Any] | None = None, **options: Any) -> Engine:
        plan = options.pop("plan", PLAIN)
        model_len = options.pop("folder_model_len", 2048)
        folder = write_tensorrt_model(tmp_path / str(len(engines)), max_model_len=model_len, **plan)
        config = EngineConfig(
            name="tensorrt_llm", tensorrt_llm=TensorRTConfig(**(tensorrt or {})), **options
        )
        engines.append(create_engine(config, str(folder), load_tokenizer(folder)))
        return engines[-1]

    yield make_engine
    for engine in engines:
        engine.close()


def request(request_id: str = "r", **fields: Any) -> Request:
    names = set(SamplingParams.__struct_fields__)
    sampling = {name: fields.pop(name) for name in list(fields) if name in names}
    sampling = {"max_tokens": 8, "temperature": 0.0, **sampling}
    fields.setdefault("prompt_token_ids", [1, 2, 3])
    return Request(request_id=request_id, sampling=SamplingParams(**sampling), **fields)


def steps(engine: Engine) -> Iterator[list[SequenceOutput]]:
    """Steps until nothing runs or nothing more can come."""
    end = time.monotonic() + 20
    while engine.num_running:
        assert time.monotonic() < end, "the engine does not come to an end"
        yield list(engine.step())


def run(engine: Engine, *requests: Request) -> dict[str, SequenceOutput]:
    """Add what fits when it fits; each request's deltas as one."""
    waiting = list(requests)
    whole: dict[str, SequenceOutput] = {}
    while waiting or engine.num_running:
        while waiting and engine.can_add(waiting[0]):
            engine.add(waiting.pop(0))
        for output in engine.step():
            whole[output.request_id] = joined(whole.get(output.request_id), output)
    return whole


def joined(before: SequenceOutput | None, output: SequenceOutput) -> SequenceOutput:
    if before is None:
        return output
    assert before.finish_reason is None, "more after the end"
    return SequenceOutput(
        output.request_id,
        before.token_ids + output.token_ids,
        output.finish_reason,
        output.num_cached_tokens,
        None if output.logprobs is None else (before.logprobs or []) + output.logprobs,
        before.prompt_logprobs or output.prompt_logprobs,
    )


def expected(plan: dict[str, Any], prompt: list[int], max_tokens: int) -> list[int]:
    """What the double says to a prompt when it is greedy."""
    from tensorrt_llm.plan import Plan
    from tensorrt_llm.token_maker import TokenMaker

    maker = TokenMaker(Plan(**plan), VOCAB_SIZE, EOS_TOKEN_ID)
    cursor = maker.read(prompt)
    tokens: list[int] = []
    while len(tokens) < max_tokens and tokens[-1:] != [EOS_TOKEN_ID]:
        tokens.append(maker.prefers(cursor, len(prompt) + len(tokens)))
        maker.push(cursor, tokens[-1])
    return tokens


def test_answers_are_the_packages(make: Make) -> None:
    engine = make(max_num_seqs=4)
    requests = [request(str(number), prompt_token_ids=[number, 7]) for number in range(10)]

    whole = run(engine, *requests)

    for number in range(10):
        assert whole[str(number)].token_ids == expected(PLAIN, [number, 7], 8)
        assert whole[str(number)].finish_reason == "length"
    usage = engine.take_usage()
    assert (usage.num_prompt_tokens, usage.num_generation_tokens) == (20, 80)


@pytest.mark.parametrize("in_list", [True, False])
def test_the_token_that_ends_an_answer_is_its_last(make: Make, in_list: bool) -> None:
    """Also where the package cuts it off (contract table, 3.5)."""
    plan = {**PLAIN, "eos_after": 3, "eos_in_token_ids": in_list}

    answer = run(make(plan=plan), request(max_tokens=50))["r"]

    assert answer.token_ids == [*expected(PLAIN, [1, 2, 3], 3), EOS_TOKEN_ID]
    assert answer.finish_reason == "stop"


def test_other_end_tokens_and_stop_tokens_end_an_answer(make: Make) -> None:
    """They come from the folder's generation_config.json and from the request (2.4)."""
    plan = {"say": [65, 66, OTHER_EOS_TOKEN_ID, 67, 68, 69]}
    engine = make(plan=plan)

    whole = run(
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

    whole = run(
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


def penalised(prompt: list[int], max_tokens: int, params: SamplingParams) -> list[int]:
    """The greedy answer under penalties, from the double's logits."""
    from tensorrt_llm.plan import Plan
    from tensorrt_llm.token_maker import TokenMaker

    maker = TokenMaker(Plan(**PLAIN), VOCAB_SIZE, EOS_TOKEN_ID)
    cursor = maker.read(prompt)
    tokens: list[int] = []
    while len(tokens) < max_tokens:
        logits = maker.logits(maker.candidates(cursor, len(prompt) + len(tokens)))
        seen = sorted({*prompt, *tokens})
        factor = np.where(
            logits[seen] > 0, 1 / params.repetition_penalty, params.repetition_penalty
        )
        logits[seen] *= factor
        for token, count in Counter(tokens).items():
            logits[token] -= params.presence_penalty + params.frequency_penalty * count
        tokens.append(int(logits.argmax()))
        maker.push(cursor, tokens[-1])
    return tokens


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
def test_penalties_are_honoured_in_every_release(make: Make, fields: dict[str, float]) -> None:
    """The sampler of some ignores them without a word (4.4)."""
    prompt = list(range(90, 110))
    asked = request(prompt_token_ids=prompt, max_tokens=40, **fields)

    answer = run(make(), asked)["r"].token_ids

    assert answer == penalised(prompt, 40, asked.sampling)
    assert answer != expected(PLAIN, prompt, 40)


@only("release", ["1.2", "1.4"], indirect=True)
def test_presence_and_frequency_count_the_answer_alone_and_all_of_it(make: Make) -> None:
    """A request that goes on is penalised as if it had never been cut."""
    engine = make()
    fields: dict[str, Any] = {"presence_penalty": 1.5, "frequency_penalty": 0.7}
    prompt = list(range(97, 123)) * 2

    whole = run(engine, request("whole", prompt_token_ids=prompt, max_tokens=24, **fields))
    tokens = whole["whole"].token_ids
    cut = request(
        "cut", prompt_token_ids=prompt, max_tokens=24, output_token_ids=tokens[:10], **fields
    )

    assert run(engine, cut)["cut"].token_ids == tokens[10:]
    assert tokens[0] == expected(PLAIN, prompt, 1)[0]


def test_logit_bias_forbids_and_forces(make: Make) -> None:
    engine = make()
    first = expected(PLAIN, [1, 2, 3], 1)[0]

    whole = run(
        engine,
        request("forbid", logit_bias={first: -100.0}),
        request("force", logit_bias={7: 100.0}),
    )

    assert first not in whole["forbid"].token_ids
    assert whole["force"].token_ids == [7] * 8


@only("release", ["1.3", "1.4"], indirect=True)
@pytest.mark.parametrize("max_tokens", [0, 5])
def test_a_prompt_is_scored_whatever_is_cached(make: Make, max_tokens: int) -> None:
    """The double scores no tokens that it finds in its cache, as the package does (3.6)."""
    engine = make(max_num_seqs=1)
    prompt = [1, 97, 98, 200, *range(97, 117)] * 4

    def asked(name: str) -> Request:
        return request(
            name, prompt_token_ids=prompt, max_tokens=max_tokens, prompt_logprobs=2, logprobs=1
        )

    answers = run(engine, asked("cold"), asked("again"))

    cold, again = answers["cold"], answers["again"]
    assert cold.prompt_logprobs == again.prompt_logprobs
    assert cold.prompt_logprobs is not None
    assert len(cold.prompt_logprobs) == len(prompt)
    assert cold.prompt_logprobs[0] is None
    assert all(entry is not None and entry.logprob <= 0 for entry in cold.prompt_logprobs[1:])
    assert len(cold.token_ids) == len(cold.logprobs or []) == max_tokens
    assert cold.finish_reason == "length"


@only("release", ["1.2"], indirect=True)
def test_a_score_that_the_release_does_not_tell_is_an_error(make: Make) -> None:
    """Of a token that is not among the likeliest (3.6); the engine goes on."""
    engine = make()
    engine.add(request("scored", prompt_token_ids=[1, 97, 250, 3], prompt_logprobs=1))
    for _ in steps(engine):
        pass

    (failed,) = engine.take_failed()
    assert "does not tell how likely" in str(failed.error)
    assert len(run(engine, request(max_tokens=3))["r"].token_ids) == 3


@pytest.mark.parametrize("wanted", [0, 1, 3])
def test_each_token_has_its_logprobs(make: Make, wanted: int) -> None:
    """0 is "the token alone" with us and "none" in some releases (3.6)."""
    answer = run(make(), request(logprobs=wanted, temperature=1.5, seed=5, max_tokens=30))["r"]

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


def test_sampling_follows_the_seed(make: Make) -> None:
    engine = make()
    sampled = [
        request(f"{seed}{take}", temperature=2.0, seed=seed, max_tokens=20)
        for seed in (1, 2)
        for take in "ab"
    ]

    whole = run(engine, *sampled, request("greedy", max_tokens=20))

    assert whole["1a"].token_ids == whole["1b"].token_ids
    assert whole["1a"].token_ids != whole["2a"].token_ids
    assert whole["greedy"].token_ids == expected(PLAIN, [1, 2, 3], 20)


def test_a_request_goes_on_where_it_stood(make: Make) -> None:
    engine = make()
    tokens = expected(PLAIN, [1, 2, 3], 20)

    whole = run(
        engine,
        request("new", max_tokens=20),
        request("half", max_tokens=20, output_token_ids=tokens[:9]),
        request("done", max_tokens=20, output_token_ids=tokens),
    )

    assert whole["new"].token_ids == tokens
    assert whole["half"].token_ids == tokens[9:]
    assert (whole["done"].token_ids, whole["done"].finish_reason) == ([], "length")


def test_a_sampled_request_that_goes_on_draws_other_numbers(make: Make) -> None:
    engine = make()
    first = run(engine, request(temperature=5.0, seed=3, max_tokens=30))["r"].token_ids
    prompt = [1, 2, 3, *first[:15]]

    again = run(
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
    assert run(engine, back)["r"].token_ids == tokens[len(seen) :]


def test_the_max_of_tokens_is_what_there_is_room_for(make: Make) -> None:
    engine = make(folder_model_len=64)

    answer = run(engine, request(prompt_token_ids=[1] * 50, max_tokens=1000))["r"]

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
    with pytest.raises(ContextLengthExceeded, match="64 tokens; this server has room for 63"):
        engine.add(request(prompt_token_ids=[1] * 64))


def test_without_chunks_a_prompt_has_to_fit_a_step(make: Make) -> None:
    engine = make({"enable_chunked_prefill": False, "max_num_tokens": 32})
    with pytest.raises(ContextLengthExceeded, match="room for 32"):
        engine.add(request(prompt_token_ids=[1] * 33))
    assert len(run(engine, request(prompt_token_ids=[1] * 32))["r"].token_ids) == 8


def test_structured_output_is_enforced_and_a_bad_one_is_the_clients_mistake(make: Make) -> None:
    engine = make()
    choice = StructuredOutput(choice=("yes.", "n(o"))

    whole = run(
        engine,
        request("choice", max_tokens=30, structured_output=choice),
        request("json", max_tokens=200, structured_output=StructuredOutput(json_object=True)),
    )
    assert bytes(whole["choice"].token_ids[:-1]).decode() in ("yes.", "n(o")
    assert bytes(whole["json"].token_ids[:-1]).decode().startswith("{")

    engine.add(request("bad", structured_output=StructuredOutput(regex="(")))
    list(steps(engine))
    [failed] = engine.take_failed()
    assert isinstance(failed.error, InvalidRequest)
    assert failed.error.param == "response_format"


def calls(*, strict: bool = False, **fields: Any) -> StructuredOutput:
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    structure = TagStructure('{"name": "f", "arguments": ', schema, "}", strict, "tools[0]")
    texts = {"trigger": "<call>", "opening": "<call>", "separator": "</call><call>"}
    tag = StructuralTag(**{**texts, "close": "</call>", "structures": (structure,), **fields})
    return StructuredOutput(structural_tag=tag, source="tools")


def test_calls_of_tools_are_enforced_where_the_package_can(make: Make) -> None:
    """Otherwise they are left to the model, if they may be."""
    engine = make()
    whole = run(engine, request(max_tokens=90, structured_output=calls()))["r"]
    text = bytes(whole.token_ids[:-1]).decode()
    assert re.fullmatch(r'<call>{"name": "f", "arguments": {"a": -?\d+}}</call>', text)
    free = run(engine, request())["r"].token_ids
    for fields in ({"at_start": True}, {"special_tokens": (("<call>", 1),)}):
        asked = request(structured_output=calls(**fields))
        assert run(engine, asked)["r"].token_ids == free
    for fields in ({"must_call": True}, {"content": "{}"}):
        with pytest.raises(InvalidRequest, match="cannot enforce `tools`") as caught:
            engine.add(request(structured_output=calls(**fields)))
        assert caught.value.param == "tools"


@pytest.mark.parametrize("backend", ["llguidance", "off"])
def test_backends_that_know_no_tags(make: Make, backend: str) -> None:
    engine = make({"guided_decoding_backend": backend})
    free = run(engine, request())["r"].token_ids
    assert run(engine, request(structured_output=calls()))["r"].token_ids == free
    with pytest.raises(InvalidRequest, match="cannot enforce `tools`"):
        engine.add(request(structured_output=calls(strict=True)))


def test_structured_output_can_be_off(make: Make) -> None:
    engine = make({"guided_decoding_backend": "off"})
    with pytest.raises(InvalidRequest, match="response_format"):
        engine.add(request(structured_output=StructuredOutput(json_object=True)))


def test_a_structured_answer_that_goes_on_is_computed_again_and_only_the_rest_is_new(
    make: Make,
) -> None:
    engine = make()
    wanted = StructuredOutput(choice=("abcdefgh",))
    first = run(engine, request(max_tokens=30, structured_output=wanted))["r"].token_ids

    rest = run(
        engine,
        request(max_tokens=30, structured_output=wanted, output_token_ids=first[:4]),
    )["r"]
    assert rest.token_ids == first[4:]

    engine.add(request(structured_output=wanted, output_token_ids=[1, 2]))
    assert [output for step in steps(engine) for output in step] == []
    [failed] = engine.take_failed()
    assert "differently the second time" in str(failed.error)


def test_prompt_tokens_found_in_the_cache_are_counted(make: Make) -> None:
    engine = make()
    prompt = list(range(100))
    run(engine, request("first", prompt_token_ids=prompt))
    engine.take_usage()

    again = run(engine, request("again", prompt_token_ids=prompt))["again"]
    salted = run(engine, request("salted", prompt_token_ids=prompt, cache_salt="x"))["salted"]

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
    assert set(run(engine, request("second"), request("first"))) == {"first", "second"}


def test_the_engines_queue_stays_as_short_as_its_cache(make: Make) -> None:
    """So that our own queue decides who is next (10.13)."""
    engine = make(num_kv_tokens=256)
    long = request("long", max_tokens=150)
    engine.add(long)

    assert not engine.can_add(request("other", max_tokens=100))
    assert engine.can_add(request("short", max_tokens=20))
    list(steps(engine))
    assert engine.can_add(request("other", max_tokens=100))


def test_one_requests_error_leaves_the_others_alone(make: Make) -> None:
    fault = {"kind": "request_error", "prompt_has": 9, "after": 2}
    engine = make(plan={**PLAIN, "faults": [fault]})
    core = EngineCore(engine, load_tokenizer(""), EngineConfig())
    core.submit(request("bad", prompt_token_ids=[9]))
    core.submit(request("good"))

    messages = []
    while core.has_work:
        core.step()
        messages += core.take_messages()

    [failed] = [message for message in messages if isinstance(message, RequestFailed)]
    assert (failed.request_id, failed.kind) == ("bad", "internal")
    tokens = [
        token
        for message in messages
        if isinstance(message, StepOutput)
        for output in message.outputs
        if output.request_id == "good"
        for token in output.token_ids
    ]
    assert tokens == expected(PLAIN, [1, 2, 3], 8)


def test_a_cuda_error_in_the_clothes_of_a_requests_error_is_the_end(make: Make) -> None:
    engine = make(plan={**PLAIN, "faults": [{"kind": "cuda_error", "after": 2}]})
    engine.add(request())
    with pytest.raises(EngineFatal, match="CUDA error"):
        list(steps(engine))


def test_an_engine_error_comes_out_with_the_next_request(make: Make) -> None:
    engine = make(plan={**PLAIN, "faults": [{"kind": "engine_error", "after": 2, "prompt_has": 9}]})

    def serve() -> None:
        for number in range(50):
            engine.add(request(str(number), prompt_token_ids=[9]))
            list(steps(engine))

    with pytest.raises(EngineFatal, match="TensorRT-LLM is broken"):
        serve()


@only("release", ["1.2"], indirect=True)
def test_a_hang_is_noticed(make: Make) -> None:
    engine = make(
        {"no_progress_timeout": 0.3}, plan={**PLAIN, "faults": [{"kind": "hang", "after": 2}]}
    )
    engine.add(request())
    started = time.monotonic()
    with pytest.raises(EngineFatal, match="no_progress_timeout"):
        list(steps(engine))
    assert time.monotonic() - started < 5


@only("release", ["1.2"], indirect=True)
def test_a_request_that_waits_for_memory_is_no_hang(make: Make) -> None:
    """The package lets it in when another has ended; that one gets tokens meanwhile."""
    engine = make(
        {"no_progress_timeout": 0.3},
        max_num_seqs=2,
        plan={**PLAIN, "step_ms": 2, "kv_tokens": 400},
    )
    requests = [request("first", max_tokens=300), request("second", max_tokens=300)]

    whole = run(engine, *requests)

    assert {len(answer.token_ids) for answer in whole.values()} == {300}


def test_a_model_that_does_not_load_is_the_operators_to_mend(make: Make) -> None:
    with pytest.raises(SetupError, match=r"insufficient GPU memory.*engine\.tensorrt_llm"):
        make(plan={"faults": [{"kind": "out_of_memory"}]})


@only("release", ["1.2"], indirect=True)
def test_a_folder_of_engines_still_works_where_it_can(release: str, tmp_path: Path) -> None:
    """Through a class of its own; its sampler in C++ honours penalties (4.4 and 8.1)."""
    folder = write_tensorrt_model(tmp_path / "m", **PLAIN)
    (folder / "rank0.engine").write_bytes(b"\0")
    config_file = folder / "config.json"
    limits = {"max_seq_len": 512, "max_batch_size": 16, "max_num_tokens": 1024}
    config = {**json.loads(config_file.read_text()), "build_config": limits}
    config_file.write_text(json.dumps(config))

    engine = create_engine(EngineConfig(name="tensorrt_llm"), str(folder), load_tokenizer(folder))
    try:
        asked = request(max_tokens=20, frequency_penalty=1.1)
        assert run(engine, asked)["r"].token_ids == penalised([1, 2, 3], 20, asked.sampling)
        assert engine.limits.max_model_len == 512
    finally:
        engine.close()


def test_without_the_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    config = EngineConfig(name="tensorrt_llm")
    folder = write_tensorrt_model(tmp_path / "model")
    with pytest.raises(MissingExtra, match=r"lockgate\[tensorrt\]"):
        create_engine(config, str(folder), load_tokenizer(folder))


class Plot(Struct, frozen=True):
    """One request of a random plot: after how many steps it comes, how long it is, and after how
    many tokens it is given up or has to give way."""

    prompt: list[int]
    max_tokens: int
    comes_after: int
    stop: int | None
    abort_after: int | None
    preempt_after: int | None

    def to_request(self, name: str) -> Request:
        return request(
            name,
            prompt_token_ids=self.prompt,
            max_tokens=self.max_tokens,
            stop_token_ids=() if self.stop is None else (self.stop,),
        )

    def answer(self, plan: dict[str, Any]) -> list[int]:
        tokens = expected(plan, self.prompt, self.max_tokens)
        if self.stop in tokens:
            return tokens[: tokens.index(self.stop) + 1]
        return tokens


PLOTS = st.lists(
    st.builds(
        Plot,
        prompt=st.lists(st.integers(0, 255), min_size=1, max_size=40),
        max_tokens=st.integers(1, 30),
        comes_after=st.integers(0, 8),
        stop=st.none() | st.integers(97, 122),
        abort_after=st.none() | st.integers(0, 20),
        preempt_after=st.none() | st.integers(1, 20),
    ),
    min_size=1,
    max_size=8,
)


class Stage:
    """Plays a plot on an engine: everything that may happen to a request while others run."""

    def __init__(self, engine: Engine, plots: list[Plot]) -> None:
        self.engine = engine
        self.plots = {str(number): plot for number, plot in enumerate(plots)}
        self.got: dict[str, list[int]] = {name: [] for name in self.plots}
        self.gone: set[str] = set()
        self._coming = sorted(self.plots, key=lambda name: self.plots[name].comes_after)
        self._waiting: list[Request] = []
        self._to_preempt = {name for name, plot in self.plots.items() if plot.preempt_after}

    def play(self) -> None:
        num_steps = 0
        while len(self.gone) < len(self.plots):
            assert num_steps < 100_000, "the engine does not come to an end"
            while self._coming and self.plots[self._coming[0]].comes_after <= num_steps:
                name = self._coming.pop(0)
                self._waiting.append(self.plots[name].to_request(name))
            while self._waiting and self.engine.can_add(self._waiting[0]):
                self.engine.add(self._waiting.pop(0))
            self._hear()
            for name in sorted(set(self.plots) - self.gone):
                self._disturb(name, self.plots[name])
            num_steps += 1

    def _hear(self) -> None:
        for output in self.engine.step():
            assert output.request_id not in self.gone, "a request speaks after its end"
            self.got[output.request_id] += output.token_ids
            if output.finish_reason is not None:
                self.gone.add(output.request_id)
        assert self.engine.take_failed() == []

    def _disturb(self, name: str, plot: Plot) -> None:
        num_tokens = len(self.got[name])
        if plot.abort_after is not None and num_tokens >= plot.abort_after:
            self.engine.abort(name)
            self._waiting = [request for request in self._waiting if request.request_id != name]
            self._coming = [other for other in self._coming if other != name]
            self.gone.add(name)
        elif name in self._to_preempt and num_tokens >= (plot.preempt_after or 0):
            self._to_preempt.discard(name)
            self.engine.preempt(name)
            self._waiting += self.engine.take_preempted()


@only("stream_interval", [1, 3])
@only("release", ["1.2", "1.4"], indirect=True)
def test_whatever_happens_each_request_gets_its_own_tokens(
    make: Make, stream_interval: int
) -> None:
    """Any interleaving of requests, ends, stop tokens, aborts and preemptions."""
    plan = {**PLAIN, "eos_at": 45}
    engine = make({"extra": {"stream_interval": stream_interval}}, max_num_seqs=3, plan=plan)

    @settings(max_examples=30, deadline=None)
    @given(plots=PLOTS)
    def holds(plots: list[Plot]) -> None:
        stage = Stage(engine, plots)
        stage.play()
        for name, plot in stage.plots.items():
            answer = plot.answer(plan)
            complete = plot.abort_after is None
            assert stage.got[name] == (answer if complete else answer[: len(stage.got[name])])

    holds()
