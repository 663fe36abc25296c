"""What differs between the releases: a probe for each row of the table of facts."""

import asyncio
import dataclasses
import inspect
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.runtime.engines.tensorrt_llm.double.harness import (
    EOS,
    NAME,
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
    turns,
    until,
)

LORA_MODULES = ("lora_helper", "_torch.peft.lora.config")
PENALTIES = (
    {"repetition_penalty": 100.0},
    {"presence_penalty": 30.0},
    {"frequency_penalty": 30.0},
)
"""Each is so large that no token comes twice while there is another one."""

NAMES: dict[str, Callable[[Double], Any]] = {
    "has_tensorrt_engine": lambda d: d.has("_tensorrt_engine"),
    "lora_module": lambda d: f"{NAME}.{next(name for name in LORA_MODULES if d.has(name))}",
    "has_engine_dead_error": lambda d: hasattr(d.executor, "EngineDeadError"),
    "get_kv_cache_capacity": lambda d: hasattr(d.LLM, "get_kv_cache_capacity"),
    "decoding_type_is_field": lambda d: (
        "decoding_type" in d.llmapi.DraftTargetDecodingConfig.model_fields
    ),
    "decoding.Lookahead": lambda d: hasattr(d.llmapi, "LookaheadDecodingConfig"),
    "decoding.Medusa": lambda d: hasattr(d.llmapi, "MedusaDecodingConfig"),
    "decoding.Eagle3": lambda d: hasattr(d.llmapi, "Eagle3DecodingConfig"),
}


async def visible(name: str, double: Double, start: Start) -> Any:
    """What can be seen without an LLM: a name, a field's default or ABSENT, whether a method has a
    parameter."""
    if name in NAMES:
        return NAMES[name](double)
    owner, field = name.split(".")
    if owner == "generate_async":
        return field in inspect.signature(double.LLM.generate_async).parameters
    if owner == "SamplingParams":
        fields = {each.name: each.default for each in dataclasses.fields(double.SamplingParams)}
    else:
        model = getattr(double.llmapi, owner)
        fields = {name: each.default for name, each in model.model_fields.items()}
    return fields.get(field, double.facts.ABSENT)


async def penalties(double: Double, start: Start, **arguments: Any) -> bool:
    llm = start({"script": [5, 6, 7, 8]}, **arguments)
    answers = [await double.tokens(llm, max_tokens=4, **fields) for fields in PENALTIES]
    [honoured] = {len(set(answer)) == 4 for answer in answers}
    return honoured


async def bans_last_token(double: Double, start: Start) -> bool:
    llm = start({"script": [VOCAB - 1]})
    tokens = await double.tokens(llm, min_tokens=3, max_tokens=3, ignore_eos=True)
    return VOCAB - 1 not in tokens


async def logprobs_0(double: Double, start: Start) -> bool:
    output = await double.output(start(), max_tokens=2, logprobs=0)
    return [list(entry) for entry in output.logprobs or ()] == [[t] for t in output.token_ids]


async def has_sampled_token(double: Double, start: Start) -> bool:
    output = await double.output(start(), max_tokens=30, logprobs=1, temperature=1.5)
    pairs = zip(output.token_ids, output.logprobs, strict=True)
    return all(token in entry for token, entry in pairs)


async def has_prompt_token(double: Double, start: Start) -> bool:
    """Tokens that are found in the cache are not scored again, in any release."""
    llm = start(kv_cache_config={"tokens_per_block": 4})
    prompt = list(range(3, 14))
    first, reused = [
        (await double.output(llm, prompt, max_tokens=3, prompt_logprobs=1)).prompt_logprobs
        for _ in range(2)
    ]
    assert (len(first), len(reused)) == (11, 3)
    return all(token in entry for token, entry in zip(prompt[1:], first[:-1], strict=True))


async def default_seed(double: Double, start: Start) -> int | None:
    """The seed that draws what no seed draws: the same every time. None if no seed does."""
    drawn = partial(double.tokens, start(), max_tokens=20, temperature=1.0)
    unseeded = [await drawn() for _ in range(2)]
    seeded = [await drawn(seed=seed) for seed in range(3)]
    assert seeded[1] != seeded[2]
    return seeded.index(unseeded[0]) if unseeded[0] == unseeded[1] else None


async def honours_seeds(double: Double, start: Start) -> bool:
    drawn = partial(double.tokens, start(), max_tokens=20, temperature=1.0, seed=7)
    return await drawn() == await drawn()


async def stops_despite_ignore_eos(double: Double, start: Start) -> bool:
    """Where it does not, nothing but the limit ends the answer."""
    llm = start({"say": [5, 6, 7, 8]})
    output = await double.output(llm, max_tokens=4, ignore_eos=True, stop_token_ids=[6])
    return output.finish_reason == "stop"


async def loop_says_its_end(double: Double, start: Start) -> bool:
    """To every request that runs, as the error of each. Nobody else is served any more."""
    fault = {"kind": "loop_terminates", "prompt_has": 99, "after": 2}
    llm = start({"faults": [fault]})
    params = double.params(max_tokens=300)
    results = together(llm, ([1], params), ([99], params))
    waiting = [asyncio.ensure_future(result.aresult()) for result in results]
    await until(lambda: llm._executor._dead)
    await turns()
    errors = [each.exception() for each in waiting if each.done()]
    for each in waiting:
        each.cancel()
    assert error_of(lambda: llm.generate_async(PROMPT, double.params()))[0]
    told = [isinstance(error, double.RequestError) for error in errors]
    assert all("Event loop terminated" in str(error) for error in errors if any(told))
    return told == [True, True]


async def errors_end_a_result(double: Double, start: Start) -> bool:
    """Otherwise who iterates again waits for ever."""
    llm = start({"faults": [{"kind": "request_error", "prompt_has": 99, "after": 1}]})
    result = llm.generate_async([99], double.params(max_tokens=4), streaming=True)
    await anext(result)
    kind, text = await awaited_error(anext(result))
    assert (kind, "failed in the engine" in text) == ("RequestError", True)
    again = asyncio.ensure_future(anext(result))
    assert await double.tokens(llm, max_tokens=4) == double.answer(PROMPT, 4)
    await turns()
    assert again.done() == result.finished
    if not again.cancel():
        assert isinstance(again.exception(), StopAsyncIteration)
    return bool(result.finished)


async def keeps_end_token(double: Double, start: Start) -> bool:
    """The plan has its way where the table is not certain."""
    llm = start({"say": [5, 6], "eos_in_token_ids": False})
    output = await double.output(llm, logprobs=1)
    assert (output.token_ids, len(output.logprobs)) == ([5, 6], 2)
    output = await double.output(start({"say": [5, 6]}))
    assert (output.finish_reason, output.stop_reason) == ("stop", None)
    return output.token_ids == [5, 6, EOS]


async def first_token_at_once(double: Double, start: Start) -> bool:
    params = double.params(max_tokens=8)
    seen = await stream(start(stream_interval=3).generate_async(PROMPT, params, streaming=True))
    *first, third, sixth, last = map(len, seen)
    assert (third, sixth, last) == (3, 6, 8)
    return first == [1]


async def overlong_prompt(double: Double, start: Start) -> bool:
    chunked = start(max_num_tokens=8, enable_chunked_prefill=True)
    long = list(range(3, 30))
    assert await double.tokens(chunked, long, max_tokens=2) == double.answer(long, 2)
    whole = start(max_num_tokens=8)
    kind, text = error_of(lambda: whole.generate_async(long, double.params()))
    assert "max_num_tokens" in text
    return kind == "RequestError"


async def worker_is_watched(double: Double, start: Start) -> bool:
    """Otherwise nobody who waits is told and health stays good, until the next request. Those who
    are told get an error of a class of its own."""
    llm = start({"faults": [{"kind": "worker_dies", "prompt_has": 99, "after": 2}]})
    waiting = asyncio.ensure_future(llm.generate_async([99], double.params()).aresult())
    await until(lambda: llm._executor._dead)
    await turns()
    told = waiting.done()
    assert llm._check_health() != told
    errors = [error_of(lambda: llm.generate_async(PROMPT, double.params())) for _ in range(2)]
    died = ("EngineDeadError" if told else "RuntimeError", "Executor worker died unexpectedly")
    assert errors == [died, ("RuntimeError", "LLM is shutting down")]
    if told:
        assert await awaited_error(waiting) == died
    waiting.cancel()
    assert not llm._check_health()
    return told


async def shutdown_blocks(double: Double, start: Start) -> bool:
    executor = (llm := start())._executor
    executor.kill_worker()
    executor._host._thread.join(WAIT)
    blocked = threading.Event()
    wait = executor._unblocked.wait
    executor._unblocked.wait = lambda timeout: (blocked.set(), wait(timeout))
    thread = threading.Thread(target=llm.shutdown)
    thread.start()
    await until(lambda: blocked.is_set() or not thread.is_alive())
    was_blocked = thread.is_alive()
    executor.unblock()
    thread.join(WAIT)
    assert not thread.is_alive()
    return was_blocked


async def failing_processor(double: Double, start: Start) -> bool:
    def processor(*arguments: Any) -> None:
        raise KeyError("broken")

    llm = start()
    failing = double.params(logits_processor=processor)
    other, wrong = together(llm, (PROMPT, double.params(max_tokens=200)), (PROMPT, failing))
    kind, text = await awaited_error(wrong.aresult())
    assert (kind, "broken" in text) == ("RequestError", True)
    return (await awaited_error(other.aresult()))[0] == "RequestError"


PROBES: dict[str, Probe] = {
    "torch_sampler_honours_penalties": penalties,
    "min_tokens_with_ignore_eos_bans_last_token": bans_last_token,
    "logprobs_0_gives_sampled_token": logprobs_0,
    "logprobs_always_have_sampled_token": has_sampled_token,
    "prompt_logprobs_always_have_prompt_token": has_prompt_token,
    "default_seed": default_seed,
    "torch_sampler_honours_seeds": honours_seeds,
    "stops_despite_ignore_eos": stops_despite_ignore_eos,
    "loop_says_its_end": loop_says_its_end,
    "errors_end_a_result": errors_end_a_result,
    "eos_in_token_ids": keeps_end_token,
    "first_token_at_once": first_token_at_once,
    "overlong_prompt_raises_request_error": overlong_prompt,
    "worker_is_watched": worker_is_watched,
    "shutdown_blocks_after_crash": shutdown_blocks,
    "failing_processor_fails_all": failing_processor,
}
"""What an LLM shows."""
