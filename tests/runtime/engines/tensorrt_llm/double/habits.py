"""What all releases do, and the engine relies on or steers around. Each probe returns what it has
seen, which is to be `HABITS[probe]`."""

import asyncio
import math
import threading
from typing import Any

from tests.runtime.engines.tensorrt_llm.double.harness import (
    END_OF_TEXT,
    PROMPT,
    VOCAB,
    WAIT,
    Double,
    Probe,
    Start,
    awaited_error,
    error_of,
    stream,
    together,
    tokens_together,
    turns,
    until,
)

PAUSES = {"capacity_scheduler_policy": "MAX_UTILIZATION"}
LONG_TEXT = "a" * 90


async def checked_parameters(double: Double, start: Start) -> list[str]:
    """What is refused when it is made; wrong penalties and limits are not."""
    double.SamplingParams(max_tokens=-5, repetition_penalty=-1.0)
    wrong: list[dict[str, Any]] = [
        {"top_p": 1.1},
        {"top_k": -1},
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"min_p": 7.0},
        {"logprobs": 101},
        {"anything": 1},
    ]
    return [error_of(lambda each=each: double.SamplingParams(**each))[0] for each in wrong]


async def truth_as_a_number(double: Double, start: Start) -> list[int | None]:
    return [double.SamplingParams(logprobs=value).logprobs for value in (True, False, 3)]


async def greedy_rule(double: Double, start: Start) -> list[bool]:
    """Whether it is greedy under these parameters."""
    llm = start()
    asked: list[dict[str, Any]] = [
        {},
        {"temperature": 0},
        {"temperature": 0.7, "top_k": 1},
        {"top_p": 0},
        {"min_p": 1.0},
        {"temperature": 1.0},
        {"top_p": 1.0},
        {"top_k": 0},
        {"min_p": 0.001},
    ]
    greedy = double.answer(PROMPT, 40)
    return [await double.tokens(llm, max_tokens=40, **each) == greedy for each in asked]


async def refused_at_once(double: Double, start: Start) -> list[str]:
    llm = start()
    unplayed = double.params(temperature=1.0)
    unplayed.n = 2
    calls = [
        (PROMPT, {"max_tokens": 3}),
        ({"text": "a"}, double.params()),
        (PROMPT, double.SamplingParams()),
        (PROMPT, unplayed),
    ]
    return [error_of(lambda call=call: llm.generate_async(*call))[0] for call in calls]


async def no_room_for_an_answer(double: Double, start: Start) -> tuple[str, int]:
    """Too long a prompt fails when it is awaited; too long an answer is cut."""
    llm = start(max_seq_len=8)
    kind, text = await awaited_error(double.output(llm, list(range(8))))
    assert "max_seq_len" in text
    return kind, len(await double.tokens(llm, list(range(3, 8)), max_tokens=100))


async def changed_in_place(double: Double, start: Start) -> list[tuple[Any, Any, Any]]:
    """The other end tokens become stop tokens, also where end tokens are ignored; not where the
    caller has set the end token."""
    llm = start(speaks=True)
    made = [{}, {"ignore_eos": True}, {"ignore_eos": True, "end_id": 9, "pad_id": 9}]
    given = [double.SamplingParams(max_tokens=1, detokenize=False, **each) for each in made]
    for params in given:
        await llm.generate_async(PROMPT, params)
    return [(params.end_id, params.pad_id, params.stop_token_ids) for params in given]


async def made_without_a_loop(double: Double, start: Start) -> tuple[str, str]:
    llm, made = start(), list[Any]()
    thread = threading.Thread(
        target=lambda: made.append(llm.generate_async(PROMPT, double.params()))
    )
    thread.start()
    thread.join()
    return await awaited_error(made[0].aresult())


async def one_growing_object(double: Double, start: Start) -> list[list[int]]:
    result = start({"say": [5, 6, 7, 8, 9]}).generate_async(
        {"prompt_token_ids": PROMPT}, double.params(max_tokens=4), streaming=True
    )
    seen = []
    async for item in result:
        assert item is result
        seen.append(list(item.outputs[0].token_ids))
    assert (result.finished, result.outputs[0].finish_reason) == (True, "length")
    return seen


async def shorter_at_the_end(double: Double, start: Start) -> list[list[list[int]]]:
    """A stop token is taken back, unless it is asked for."""
    llm = start({"say": [5, 6, 7, 8]})
    cut, kept = [
        llm.generate_async(PROMPT, double.params(stop_token_ids=[7], **fields), streaming=True)
        for fields in ({}, {"include_stop_str_in_output": True})
    ]
    seen = [await stream(cut), await stream(kept)]
    assert cut.outputs[0].stop_reason == kept.outputs[0].stop_reason == 7
    return seen


async def cached_blocks(double: Double, start: Start) -> list[int]:
    llm = start(kv_cache_config={"tokens_per_block": 4})
    prompt, params = list(range(3, 14)), double.params(max_tokens=1)
    return [
        (await llm.generate_async(prompt, params, cache_salt=salt)).cached_tokens
        for salt in (None, None, "other")
    ]


async def aborted(double: Double, start: Start) -> list[tuple[bool, str]]:
    """Whether it runs or waits; after a shutdown there is nobody to ask."""
    llm = start({"step_ms": 10}, max_batch_size=1)
    results = [
        llm.generate_async(PROMPT, double.params(max_tokens=900), streaming=True) for _ in range(2)
    ]
    await anext(results[0])
    async with asyncio.timeout(WAIT):
        for result in reversed(results):
            result.abort()
            await result
    llm.shutdown()
    assert error_of(results[0].abort)[0] == "AssertionError"
    return [(result.finished, result.outputs[0].finish_reason) for result in results]


class Forcing:
    """A processor that forces 41, 42 and so on, and remembers what it was shown."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, req_id: int, logits: Any, token_ids: Any, stream: Any, client: Any) -> None:
        assert tuple(logits.shape) == (1, 1, VOCAB)
        assert stream is None
        self.calls.append(token_ids[0][len(PROMPT) :])
        logits.numpy()[:, :, 40 + len(self.calls)] += 100.0


async def shown_to_processors(double: Double, start: Start) -> list[list[list[int]]]:
    """What each call is shown behind the prompt: with the overlap scheduler not the newest
    token."""
    shown = []
    for overlaps in (False, True):
        processor = Forcing()
        llm = start(disable_overlap_scheduler=not overlaps)
        tokens = await double.tokens(llm, max_tokens=3, logits_processor=processor)
        assert tokens == [41, 42, 43]
        shown.append(processor.calls)
    return shown


async def called_for_each_piece(double: Double, start: Start) -> tuple[list[int], list[int]]:
    """With the whole prompt; what counts is the last call."""
    processor = Forcing()
    llm = start(max_num_tokens=4, enable_chunked_prefill=True)
    prompt = [*PROMPT, *range(20, 28)]
    tokens = await double.tokens(llm, prompt, max_tokens=2, logits_processor=processor)
    return tokens, [len(shown) for shown in processor.calls]


async def guides(double: Double, start: Start) -> list[list[str]]:
    """Enforced with a backend, dropped without a word where there is none."""
    asked: list[dict[str, Any]] = [
        {"json": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        {"json_object": True},
        {"regex": "(no|yes)[0-9]{2}"},
        {"grammar": 'root ::= "left" | "right"'},
    ]
    seen = []
    free = start({"say": [5]}, speaks=True)
    for backend in ("xgrammar", "llguidance"):
        llm = start(speaks=True, guided_decoding_backend=backend)
        texts = []
        for guide in asked:
            guided = double.llmapi.GuidedDecodingParams(**guide)
            tokens = await double.tokens(llm, guided_decoding=guided, end_id=None)
            texts.append(llm.tokenizer.decode(tokens))
            assert (await double.tokens(free, guided_decoding=guided, end_id=None))[0] == 5
        seen.append(texts)
    return seen


async def wrong_guides(double: Double, start: Start) -> list[tuple[str, bool]]:
    """Errors of their requests alone. One that is empty or false counts as none."""
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("xgrammar", {"json": {"type": "nothing"}}),
        ("xgrammar", {"json": True}),
        ("xgrammar", {"regex": "("}),
        ("llguidance", {"structural_tag": "{}"}),
    ]
    seen = []
    for backend, guide in wrong:
        llm = start({"say": [5]}, speaks=True, guided_decoding_backend=backend)
        guided = double.llmapi.GuidedDecodingParams(**guide)
        kind, text = await awaited_error(double.output(llm, guided_decoding=guided, end_id=None))
        seen.append((kind, next(iter(guide)) in text))
        for none in ({"json": False}, {"json": {}}, {"regex": ""}):
            guided = double.llmapi.GuidedDecodingParams(**none)
            assert (await double.tokens(llm, guided_decoding=guided, end_id=None))[0] == 5
    return seen


async def runs_together(double: Double, start: Start) -> list[int]:
    """Requests whose answers would not fit, under either policy: room is reserved for whole
    answers, or an answer is paused later. All of them come out whole."""
    most = []
    for policy in ("GUARANTEED_NO_EVICT", "MAX_UTILIZATION"):
        llm = start(
            {"kv_tokens": 250},
            enable_iter_perf_stats=True,
            scheduler_config={"capacity_scheduler_policy": policy},
        )
        answers = await tokens_together(
            llm, *(([number], double.params(max_tokens=100)) for number in range(3, 7))
        )
        assert answers == [double.answer([number], 100) for number in range(3, 7)]
        stats = [record["inflightBatchingStats"] for record in llm.get_stats(timeout=WAIT)]
        most.append(max(each["numScheduledRequests"] for each in stats))
        assert any(each["numPausedRequests"] for each in stats) == (policy == "MAX_UTILIZATION")
    return most


async def begins_anew_after_a_pause(double: Double, start: Start) -> tuple[int, bool]:
    """The processor is left out for the token that follows, and the guide's text begins again."""

    class Forbids7(Forcing):
        def __call__(self, *arguments: Any) -> None:
            arguments[1].numpy()[:, :, 7] = -math.inf

    plan: dict[str, Any] = {"script": [7], "kv_tokens": 130}
    llm = start(plan, scheduler_config=PAUSES)
    plain = double.params(max_tokens=100)
    processed = double.params(max_tokens=100, logits_processor=Forbids7())
    _, forbidden = await tokens_together(llm, (PROMPT, plain), (PROMPT, processed))
    llm = start(plan, speaks=True, guided_decoding_backend="xgrammar", scheduler_config=PAUSES)
    plain = double.params(max_tokens=100, end_id=None)
    guide = double.llmapi.GuidedDecodingParams(regex=LONG_TEXT)
    guided = double.params(max_tokens=400, guided_decoding=guide, end_id=None)
    _, text = await tokens_together(llm, (PROMPT, plain), (PROMPT, guided))
    return forbidden.count(7), len(LONG_TEXT) < len(text) - 1 < 2 * len(LONG_TEXT)


async def capacity(double: Double, start: Start) -> list[int]:
    """Before the first request, and in the records where a release does not tell it."""
    llm = start({"kv_tokens": 70}, enable_iter_perf_stats=True)
    if not double.facts.fact("get_kv_cache_capacity"):
        await double.output(llm, max_tokens=1)
        stats = llm.get_stats(timeout=WAIT)[0]["kvCacheStats"]
        return [stats["maxNumBlocks"], stats["tokensPerBlock"], 64]
    record = llm.get_kv_cache_capacity()
    return [record[name] for name in ("maxNumBlocks", "tokensPerBlock", "maxNumTokens")]


async def engine_error(double: Double, start: Start) -> tuple[bool, tuple[str, str], bool]:
    """It waits for the next request."""
    llm = start({"faults": [{"kind": "engine_error", "prompt_has": 99, "message": "lost"}]})
    llm.generate_async([99], double.params(max_tokens=1))
    await until(lambda: bool(llm._executor._errors))
    was_healthy = llm._check_health()
    error = error_of(lambda: llm.generate_async(PROMPT, double.params()))
    return was_healthy, error, llm._check_health()


async def cuda_error(double: Double, start: Start) -> tuple[set[str], bool]:
    """Everything fails, each as an error of its request, and health stays good."""
    llm = start({"faults": [{"kind": "cuda_error", "prompt_has": 99}]})
    other, bad = together(llm, (PROMPT, double.params(max_tokens=500)), ([99], double.params()))
    results = (bad, other, llm.generate_async(PROMPT, double.params()))
    errors = [await awaited_error(result.aresult()) for result in results]
    assert all("CUDA error: an illegal memory access" in text for _, text in errors)
    return {kind for kind, _ in errors}, llm._check_health()


async def hang(double: Double, start: Start) -> tuple[bool, bool]:
    """Nobody notices."""
    llm = start({"faults": [{"kind": "hang", "prompt_has": 99}]})
    hanging = asyncio.ensure_future(llm.generate_async([99], double.params()).aresult())
    await until(lambda: llm._executor._host._inbox.empty())
    await turns()
    seen = hanging.done(), llm._check_health()
    llm.shutdown()
    assert (await hanging).outputs[0].finish_reason is not None
    return seen


HABITS: dict[Probe, Any] = {
    checked_parameters: ["ValueError"] * 6 + ["TypeError"],
    truth_as_a_number: [0, None, 3],
    greedy_rule: [True] * 5 + [False] * 4,
    refused_at_once: ["TypeError", "TypeError", "ValueError", "NotImplementedError"],
    no_room_for_an_answer: ("RequestError", 3),
    changed_in_place: [
        (END_OF_TEXT, END_OF_TEXT, [300]),
        (END_OF_TEXT, END_OF_TEXT, [300]),
        (9, 9, None),
    ],
    made_without_a_loop: (
        "AssertionError",
        "The asyncio event loop was not present during creation.",
    ),
    one_growing_object: [[5], [5, 6], [5, 6, 7], [5, 6, 7, 8]],
    shorter_at_the_end: [[[5], [5, 6], [5, 6]], [[5], [5, 6], [5, 6, 7]]],
    cached_blocks: [0, 8, 0],
    aborted: [(True, "cancelled"), (True, "cancelled")],
    shown_to_processors: [[[], [41], [41, 42]], [[], [], [41]]],
    called_for_each_piece: ([43, 44], [8, 8, 8, 8]),
    guides: [['{"n": 1}', '{"answer": 1}', "no00", "left"]] * 2,
    wrong_guides: [("RequestError", True)] * 4,
    runs_together: [2, 4],
    begins_anew_after_a_pause: (1, True),
    capacity: [2, 32, 64],
    engine_error: (True, ("RuntimeError", "lost"), False),
    cuda_error: ({"RequestError"}, True),
    hang: (False, True),
}

ISSUES = {"called_for_each_piece": (2439,), "begins_anew_after_a_pause": (18891, 19307)}
"""The issues of TensorRT-LLM that tell of a habit."""
