"""The KV cache's size: as the package reports it, and what follows from it."""

from typing import Any

import pytest

from runtime.config.tensorrt_llm import TensorRTKvCacheConfig
from runtime.engines.tensorrt_llm.admission.kv_room import BLOCK_TOKENS, KvCapacity, read_capacity
from runtime.errors import ContextLengthExceeded
from tests.runtime.engines.tensorrt_llm.harness import Make, request, steps


class Reporting:
    """An `LLM` that reports a capacity, or fails to."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def get_kv_cache_capacity(self) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def report(monkeypatch: pytest.MonkeyPatch, blocks: int, block: int) -> None:
    """From now on the package reports this many blocks of this many tokens."""
    import tensorrt_llm

    capacity = {"maxNumBlocks": blocks, "tokensPerBlock": block, "maxNumTokens": blocks * block}
    monkeypatch.setattr(
        tensorrt_llm.LLM, "get_kv_cache_capacity", lambda self: capacity, raising=False
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            {"maxNumBlocks": 123, "tokensPerBlock": 64, "maxNumTokens": 7872},
            KvCapacity(7872, 64),
        ),
        ({}, KvCapacity(0, BLOCK_TOKENS)),
        (RuntimeError("not with encode_only"), KvCapacity()),
        ({"maxNumTokens": "many"}, KvCapacity()),
        (None, KvCapacity()),
    ],
)
def test_a_capacity_is_read_or_unknown(answer: Any, expected: KvCapacity) -> None:
    assert read_capacity(Reporting(answer)) == expected


def test_a_release_without_the_method_has_an_unknown_capacity() -> None:
    assert read_capacity(object()) == KvCapacity()


def test_the_reported_size_is_known_from_the_start(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(monkeypatch, blocks=40, block=64)
    assert make(num_kv_tokens=9999, max_model_len=1000).limits.num_kv_tokens == 2560


def test_room_is_counted_in_the_blocks_that_are_reported(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(monkeypatch, blocks=4, block=64)
    engine = make(max_model_len=200)
    engine.add(request("first", max_tokens=62))  # 65 tokens: two blocks

    assert engine.can_add(request("two blocks", max_tokens=125))
    assert not engine.can_add(request("three blocks", max_tokens=126))
    list(steps(engine))
    assert engine.can_add(request("three blocks", max_tokens=126))


def test_nothing_longer_than_the_cache_is_served(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait in the package for ever."""
    report(monkeypatch, blocks=3, block=32)
    engine = make(max_model_len=1000)

    assert engine.limits.max_model_len == 96
    with pytest.raises(ContextLengthExceeded, match="96"):
        engine.add(request(prompt_token_ids=[1] * 100))
    engine.add(request(prompt_token_ids=[1] * 90, max_tokens=500))
    tokens = [token for step in steps(engine) for output in step for token in output.token_ids]
    assert len(tokens) <= 6


def test_windows_let_sequences_be_longer_than_the_cache(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(monkeypatch, blocks=3, block=32)
    cache = TensorRTKvCacheConfig(max_attention_window=(64,))
    assert make({"kv_cache": cache}, max_model_len=1000).limits.max_model_len == 1000


def test_a_length_that_the_package_has_lowered_is_the_limit(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorrt_llm.executor.executor import Executor

    monkeypatch.setattr(Executor, "max_seq_len", 512, raising=False)
    assert make(max_model_len=1000).limits.max_model_len == 512
    assert make(max_model_len=300).limits.max_model_len == 300
