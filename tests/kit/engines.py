"""Engines and their worker without a process: what they are made of, and their whole answers."""

import os
import time
from typing import Any

import msgspec
import pytest

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from runtime.config.scripted import ScriptedConfig
from runtime.engines import create_engine
from runtime.engines.base import Engine, SequenceOutput
from runtime.llama_library.installed import installed_families
from runtime.messages.engine import EngineInfo, EngineLimits
from runtime.messages.request import Request, RequestOutput, SamplingParams
from runtime.messages.wire import Ready, StepOutput
from runtime.tokenizers.load import load_tokenizer
from runtime.worker.core import EngineCore

LLAMA_LIBRARY = os.environ.get("LLAMA_LIBRARY", "auto")
"""Which library the tests of the embedded engine are run on, as in `engine.llama_cpp.library`."""

ONE_THREAD = LlamaCppConfig(library=LLAMA_LIBRARY, num_threads=1, use_extra_bufts=False)
"""The same sums on every machine."""


def needs_llama_library() -> None:
    """Skip the test, or the module that calls it, where no llama.cpp library is installed."""
    if not installed_families():
        pytest.skip("no llama.cpp library is installed", allow_module_level=True)


LIMITS = EngineLimits(
    max_model_len=100,
    max_num_seqs=4,
    max_num_waiting=6,
    max_num_batched_tokens=100,
    num_kv_tokens=256,
)
READY = Ready(LIMITS, EngineInfo(engine="none", version="0", device="none"))
"""What a worker says when it has loaded: room for four requests, and for six that wait."""


def ready(**limits: int) -> Ready:
    """READY with other limits."""
    return Ready(msgspec.structs.replace(LIMITS, **limits), READY.info)


_SAMPLING = frozenset(SamplingParams.__struct_fields__)


def a_request(request_id: str = "r", **fields: Any) -> Request:
    """Eight tokens to a prompt of one, unless `fields` say otherwise: fields of the request and of
    its sampling side by side."""
    sampling = {name: fields.pop(name) for name in list(fields) if name in _SAMPLING}
    params = SamplingParams(**{"max_tokens": 8, **sampling})
    return Request(request_id=request_id, sampling=params, **{"prompt_token_ids": [1], **fields})


def scripted_core(text: str, num_tokens: int = 0, **settings: Any) -> EngineCore:
    """A worker's core on the scripted engine, which says `text`, a token a byte."""
    scripted = ScriptedConfig(text=text, num_tokens=num_tokens)
    config = EngineConfig(name="scripted", scripted=scripted, **settings)
    tokenizer = load_tokenizer("")
    return EngineCore(create_engine(config, "", tokenizer), tokenizer, config)


def core_answers(core: EngineCore, *, steps: int = 10_000) -> dict[str, RequestOutput]:
    """Step until there is no work, or so many times; the deltas of each request as one."""
    whole: dict[str, RequestOutput] = {}
    while steps and (core.has_work or core.is_preparing):
        core.step()
        for message in core.take_messages():
            assert isinstance(message, StepOutput), message
            for output in message.outputs:
                before = whole.get(output.request_id, RequestOutput(output.request_id, [], ""))
                whole[output.request_id] = msgspec.structs.replace(
                    output,
                    token_ids=before.token_ids + output.token_ids,
                    text=before.text + output.text,
                )
        steps -= 1
    return whole


def engine_answers(
    engine: Engine, *requests: Request, steps: int = -1
) -> dict[str, SequenceOutput]:
    """Add what fits when it fits, step to the end or so many times; each request's deltas as one.
    Nothing fails."""
    waiting, patience = list(requests), time.monotonic() + 60
    whole = {each.request_id: SequenceOutput(each.request_id, []) for each in requests}
    while (waiting or engine.num_running) and steps:
        assert time.monotonic() < patience, "the engine does not come to an end"
        while waiting and engine.can_add(waiting[0]):
            engine.add(waiting.pop(0))
        for output in engine.step():
            whole[output.request_id] = _joined(whole[output.request_id], output)
        assert not engine.take_failed()
        steps -= 1
    return whole


def _joined(before: SequenceOutput, output: SequenceOutput) -> SequenceOutput:
    assert before.finish_reason is None, "more after the end"
    return SequenceOutput(
        output.request_id,
        before.token_ids + output.token_ids,
        output.finish_reason,
        output.num_cached_tokens,
        None if output.logprobs is None else (before.logprobs or []) + output.logprobs,
        before.prompt_logprobs or output.prompt_logprobs,
    )
