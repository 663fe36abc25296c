"""Section 4 of the notes: sampling parameters, logits processors, guided decoding."""

import dataclasses
from itertools import pairwise
from typing import Any

import pytest

from tests.runtime.engines.tensorrt_llm.double.harness import EOS, PROMPT, VOCAB, Double, Start

pytestmark = pytest.mark.anyio


def test_4_1_fields_of_the_release(double: Double) -> None:
    fields = {field.name: field for field in dataclasses.fields(double.SamplingParams)}
    assert all(field.kw_only for field in fields.values())
    for name in ("logprobs_mode", "thinking_token_budget"):
        expected = double.fact(f"SamplingParams.{name}")
        assert (name in fields) == (expected is not double.facts.ABSENT)
        if name in fields:
            assert fields[name].default == expected
    params = double.SamplingParams()
    assert (params.max_tokens, params.n, params.temperature) == (32, 1, None)
    with pytest.raises(AttributeError):
        params.anything = 1
    with pytest.raises(TypeError):
        double.SamplingParams(5)


@pytest.mark.parametrize(
    "fields",
    [
        {"top_p": 1.1},
        {"top_k": -1},
        {"temperature": -0.1},
        {"temperature": 1.0, "n": 3, "best_of": 2},
        {"best_of": 2},
        {"truncate_prompt_tokens": 0},
    ],
    ids=str,
)
def test_4_2_what_is_checked(double: Double, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=list(fields)[-1]):
        double.SamplingParams(**fields)


def test_4_2_one_guide(double: Double) -> None:
    guided = double.llmapi.GuidedDecodingParams(regex="a", json_object=True)
    with pytest.raises(ValueError, match="one guide"):
        double.SamplingParams(guided_decoding=guided)


@pytest.mark.parametrize(
    "fields",
    [{"n": 0}, {"max_tokens": -5}, {"repetition_penalty": -1.0}, {"min_p": 7.0}, {"logprobs": -2}],
    ids=str,
)
def test_4_2_what_is_not_checked(double: Double, fields: dict[str, Any]) -> None:
    made = double.SamplingParams(**fields)
    assert all(getattr(made, name) == value for name, value in fields.items())


def test_4_2_greedy_choices_can_be_allowed(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLLM_ALLOW_N_GREEDY_DECODING", "1")
    assert double.SamplingParams(n=2).best_of == 2


@pytest.mark.parametrize(
    ("fields", "greedy"),
    [
        ({}, True),
        ({"temperature": 0}, True),
        ({"temperature": 0.7, "top_k": 1}, True),
        ({"top_p": 0}, True),
        ({"temperature": 1.0}, False),
        ({"top_p": 1.0}, False),
        ({"top_k": 0}, False),
    ],
    ids=str,
)
async def test_4_3_the_greedy_rule(
    double: Double, start: Start, fields: dict[str, Any], greedy: bool
) -> None:
    output = (await start().generate_async(PROMPT, double.params(max_tokens=40, **fields))).outputs[
        0
    ]
    assert (output.token_ids == double.answer(PROMPT, 40)) == greedy


async def test_4_1_the_seed_is_constant_unless_given(double: Double, start: Start) -> None:
    llm = start()

    async def sampled(**fields: Any) -> list[int]:
        params = double.params(max_tokens=20, temperature=1.0, **fields)
        return (await llm.generate_async(PROMPT, params)).outputs[0].token_ids

    assert await sampled() == await sampled()
    assert await sampled() == await sampled(seed=double.fact("default_seed"))
    assert await sampled(seed=1) != await sampled(seed=2)
    assert await sampled(seed=1) == await sampled(seed=1)


SAMPLERS = ["auto", "TRTLLMSampler"]


def _honours(double: Double, sampler: str, name: str) -> bool:
    return sampler == "TRTLLMSampler" or double.fact(name)


def _sampler(double: Double, start: Start, sampler: str, plan: dict[str, Any]) -> Any:
    if double.fact("TorchLlmArgs.sampler_type") is double.facts.ABSENT:
        if sampler != "auto":
            pytest.skip("the release has one sampler")
        return start(plan)
    return start(plan, sampler_type=sampler)


@pytest.mark.parametrize("sampler", SAMPLERS)
async def test_4_4_penalties(double: Double, start: Start, sampler: str) -> None:
    """Each is so large that no token comes twice while there is another one."""
    honoured = _honours(double, sampler, "torch_sampler_honours_penalties")
    llm = _sampler(double, start, sampler, {"script": [5, 6, 7, 8]})
    for fields in (
        {"repetition_penalty": 100.0},
        {"presence_penalty": 30.0},
        {"frequency_penalty": 30.0},
    ):
        params = double.params(max_tokens=4, **fields)
        tokens = (await llm.generate_async(PROMPT, params)).outputs[0].token_ids
        assert (len(set(tokens)) == 4) == honoured


@pytest.mark.parametrize("sampler", SAMPLERS)
async def test_4_4_bad_words(double: Double, start: Start, sampler: str) -> None:
    llm = _sampler(double, start, sampler, {"script": [5, 6]})
    params = double.params(max_tokens=20, bad_token_ids=[5])
    tokens = (await llm.generate_async(PROMPT, params)).outputs[0].token_ids
    assert (5 not in tokens) == _honours(double, sampler, "torch_sampler_honours_bad_words")


@pytest.mark.parametrize("sampler", SAMPLERS)
async def test_4_4_no_repeat_ngram(double: Double, start: Start, sampler: str) -> None:
    llm = _sampler(double, start, sampler, {"script": [5]})
    params = double.params(max_tokens=6, no_repeat_ngram_size=2)
    tokens = (await llm.generate_async(PROMPT, params)).outputs[0].token_ids
    pairs = list(pairwise(tokens))
    honoured = _honours(double, sampler, "torch_sampler_honours_no_repeat_ngram")
    assert (len(pairs) == len(set(pairs))) == honoured


async def test_4_4_min_tokens(double: Double, start: Start) -> None:
    llm = start({"say": [5]})
    output = (await llm.generate_async(PROMPT, double.params(min_tokens=4, max_tokens=9))).outputs[
        0
    ]
    assert output.length > 4
    assert EOS not in output.token_ids[:4]


async def test_4_4_min_tokens_with_ignore_eos_bans_another_token(
    double: Double, start: Start
) -> None:
    last = VOCAB - 1
    params = double.params(min_tokens=3, max_tokens=3, ignore_eos=True)
    output = (await start({"script": [last]}).generate_async(PROMPT, params)).outputs[0]
    banned = last not in output.token_ids
    assert banned == double.fact("min_tokens_with_ignore_eos_bans_last_token")


async def test_4_5_a_logits_processor_changes_logits_in_place(double: Double, start: Start) -> None:
    calls: list[tuple[Any, ...]] = []

    def processor(
        req_id: int, logits: Any, token_ids: Any, stream_ptr: Any, client_id: Any
    ) -> None:
        calls.append((tuple(logits.shape), token_ids, stream_ptr))
        logits[:, :, 40 + len(calls)] += 100.0

    params = double.params(max_tokens=3, logits_processor=processor)
    output = (await start().generate_async(PROMPT, params)).outputs[0]
    assert output.token_ids == [41, 42, 43]
    assert calls[0] == ((1, 1, VOCAB), [PROMPT], None)
    assert calls[2][1] == [[*PROMPT, 41, 42]]


async def test_4_5_a_processor_that_fails(double: Double, start: Start) -> None:
    def processor(*arguments: Any) -> None:
        raise KeyError("broken")

    llm = start({"step_ms": 1})
    other = llm.generate_async(PROMPT, double.params(max_tokens=200), streaming=True)
    await anext(other)
    with pytest.raises(double.RequestError, match="broken"):
        await llm.generate_async(PROMPT, double.params(logits_processor=processor))
    if double.fact("failing_processor_fails_all"):
        with pytest.raises(double.RequestError, match="broken"):
            await other
    else:
        await other


async def test_4_5_the_batchs_processor(double: Double, start: Start) -> None:
    def processor(ids: Any, logits: Any, token_ids: Any, stream_ptr: Any, client_ids: Any) -> None:
        for tensor in logits:
            tensor[..., 77] = 100.0

    llm = start(batched_logits_processor=processor)
    wanted = double.params(max_tokens=2, apply_batched_logits_processor=True)
    assert (await llm.generate_async(PROMPT, wanted)).outputs[0].token_ids == [77, 77]
    unwanted = double.params(max_tokens=2)
    assert 77 not in (await llm.generate_async(PROMPT, unwanted)).outputs[0].token_ids


async def test_4_7_embedding_bias(double: Double, start: Start) -> None:
    llm = start()
    bias = [0.0] * VOCAB
    bias[33] = 100.0
    params = double.params(max_tokens=2, embedding_bias=bias)
    assert (await llm.generate_async(PROMPT, params)).outputs[0].token_ids == [33, 33]
    with pytest.raises(double.RequestError):
        await llm.generate_async(PROMPT, double.params(embedding_bias=bias[1:]))


GUIDES = [
    ({"json": {"type": "object", "properties": {"n": {"type": "integer"}}}}, '{"n": 1}'),
    ({"json": '{"enum": ["yes", "no"]}'}, '"yes"'),
    ({"json_object": True}, '{"answer": 1}'),
    ({"regex": "(no|yes)[0-9]{2}"}, "no00"),
    ({"grammar": 'root ::= "left" | "right"'}, "left"),
]


@pytest.mark.parametrize(("guide", "text"), GUIDES, ids=[str(g) for g, _ in GUIDES])
async def test_4_6_a_guide_is_enforced_with_a_backend_and_dropped_without(
    double: Double, start_with_tokenizer: Start, guide: dict[str, Any], text: str
) -> None:
    for backend, enforced in (("xgrammar", True), ("llguidance", True), (None, False)):
        llm = start_with_tokenizer(guided_decoding_backend=backend)
        guided = double.llmapi.GuidedDecodingParams(**guide)
        output = (
            await llm.generate_async(PROMPT, double.SamplingParams(guided_decoding=guided))
        ).outputs[0]
        assert (output.text == text) == enforced


@pytest.mark.parametrize("guide", [{"json": {"type": "nothing"}}, {"regex": "("}, {"json": "{"}])
async def test_4_6_a_guide_that_does_not_compile(
    double: Double, start_with_tokenizer: Start, guide: dict[str, Any]
) -> None:
    llm = start_with_tokenizer(guided_decoding_backend="xgrammar")
    guided = double.llmapi.GuidedDecodingParams(**guide)
    result = llm.generate_async(PROMPT, double.SamplingParams(guided_decoding=guided))
    with pytest.raises(double.RequestError, match="Failed to compile"):
        await result


async def test_4_6_structural_tags_are_xgrammars(
    double: Double, start_with_tokenizer: Start
) -> None:
    llm = start_with_tokenizer(guided_decoding_backend="llguidance")
    guided = double.llmapi.GuidedDecodingParams(structural_tag="{}")
    with pytest.raises(double.RequestError, match="structural_tag"):
        await llm.generate_async(PROMPT, double.SamplingParams(guided_decoding=guided))
