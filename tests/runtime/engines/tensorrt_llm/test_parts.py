"""Parts of the TensorRT-LLM engine by themselves: what the package's double does not show."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.engines.tensorrt_llm.end_tokens import EndTokens
from runtime.engines.tensorrt_llm.failures import Failures
from runtime.engines.tensorrt_llm.kv_stats import KvUsage, SpecCounts, _add_spec, _usage
from runtime.engines.tensorrt_llm.sequence import UNKNOWN_LOGPROB, Sequence
from runtime.engines.tensorrt_llm.submission import Submission
from runtime.errors import (
    ContextLengthExceeded,
    EngineError,
    EngineFatal,
    InvalidRequest,
    LockgateError,
)
from runtime.messages.request import TokenLogprobs
from runtime.messages.structured_output import StructuredOutput
from runtime.tokenizers.load import load_tokenizer
from tests.kit.engines import a_request

ENDS = EndTokens(frozenset({100, 101}), 100, known_to_package=True)


request = partial(a_request, prompt_token_ids=[1, 2], max_tokens=20)


class PackageError(RuntimeError):
    """Stands for the package's RequestError, which is a RuntimeError."""


class DeadError(RuntimeError):
    """Stands for the package's EngineDeadError, which is another one."""


def sequence(**sampling: Any) -> tuple[Sequence, SimpleNamespace]:
    made = Sequence(Submission(request(**sampling), 1000, load_tokenizer("")), ENDS, 0.0)
    output = SimpleNamespace(token_ids=[], finish_reason=None, stop_reason=None, logprobs=[])
    made.result = SimpleNamespace(outputs=[output], cached_tokens=0)
    return made, output


def test_a_list_that_shrinks_at_its_end_takes_nothing_back() -> None:
    """Contract table, 3.3: a stop sequence may be cut off again after it was streamed."""
    made, output = sequence(stop_token_ids=(7,))
    output.token_ids = [5, 6, 7]
    first = made.take()
    output.token_ids, output.finish_reason, output.stop_reason = [5, 6], "stop", 7
    last = made.take()

    assert first is not None
    assert first.token_ids == [5, 6, 7]
    assert last is not None
    assert (last.token_ids, last.finish_reason) == ([], "stop")


@pytest.mark.parametrize(("stop_reason", "end"), [(None, 100), (7, 7)])
def test_an_end_that_was_cut_off_is_put_back(stop_reason: int | None, end: int) -> None:
    made, output = sequence(stop_token_ids=(7,), logprobs=0)
    output.token_ids, output.logprobs = [5], [{5: SimpleNamespace(logprob=-1.0, rank=2)}]
    output.finish_reason, output.stop_reason = "stop", stop_reason

    answer = made.take()

    assert answer is not None
    assert answer.token_ids == [5, end]
    assert answer.logprobs == [TokenLogprobs(-1.0, 2), TokenLogprobs(UNKNOWN_LOGPROB)]


def test_a_token_without_an_entry_of_its_own_is_no_likelier_than_the_last() -> None:
    """Contract table, 3.6."""
    made, output = sequence(logprobs=2)
    score = {8: SimpleNamespace(logprob=-0.1, rank=1), 9: SimpleNamespace(logprob=-2.0, rank=2)}
    output.token_ids, output.logprobs = [5], [score]

    answer = made.take()

    assert answer is not None
    assert answer.logprobs == [TokenLogprobs(-2.0, None, [(8, -0.1), (9, -2.0)])]


@pytest.mark.parametrize("reason", ["timeout", "cancelled", "something new"])
def test_an_end_that_nobody_asked_for_is_an_error(reason: str) -> None:
    made, output = sequence()
    output.finish_reason = reason
    with pytest.raises(EngineError, match=reason):
        made.take()


def test_an_end_without_a_reason_is_an_error() -> None:
    made, _ = sequence()
    made.ended = True
    with pytest.raises(EngineError, match="without a reason"):
        made.take()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PackageError("prompt length 9 exceeds max_seq_len"), ContextLengthExceeded),
        (PackageError("cannot do that"), InvalidRequest),
        (ValueError("require top_p <= 1"), InvalidRequest),
        (TypeError("inputs"), InvalidRequest),
        (RuntimeError("LLM is shutting down"), EngineFatal),
        (PackageError("CUDA error: an illegal memory access was encountered"), EngineFatal),
        (PackageError("Failed to load LoRA adapter sql"), InvalidRequest),
        (NotImplementedError("beam search with this sampler"), InvalidRequest),
        (DeadError("rank 0 has exited"), EngineFatal),
        (AssertionError("?"), EngineFatal),
        (AssertionError("logprobs 2 != length 1"), EngineFatal),
    ],
)
def test_errors_at_submission(error: Exception, expected: type[LockgateError]) -> None:
    assert type(Failures(PackageError).at_submit(error, request())) is expected


@pytest.mark.parametrize(
    ("error", "has_started", "expected"),
    [
        (PackageError("something"), True, EngineError),
        (PackageError("no room in max_seq_len"), False, ContextLengthExceeded),
        (PackageError("NCCL timeout"), True, EngineFatal),
        (PackageError("CUDA out of memory. Tried to allocate 2.5 GiB"), True, EngineFatal),
        (PackageError("Event loop terminated with error: list index"), True, EngineFatal),
        (PackageError("Failed to load LoRA adapter sql"), False, InvalidRequest),
        (AssertionError("logprobs length: 2 != 1"), True, EngineError),
        (AssertionError("something else"), True, EngineFatal),
        (NotImplementedError("something"), True, EngineFatal),
        (DeadError("rank 0 has exited"), True, EngineFatal),
        (PackageError("Executor worker died unexpectedly"), True, EngineFatal),
        (RuntimeError("something"), True, EngineFatal),
        (EngineError("ours"), True, EngineError),
    ],
)
def test_errors_while_running(
    error: Exception, has_started: bool, expected: type[LockgateError]
) -> None:
    failures = Failures(PackageError)
    assert type(failures.while_running(error, has_started, request())) is expected


def test_a_guide_that_does_not_compile_is_the_clients_mistake() -> None:
    asked = request(structured_output=StructuredOutput(regex="("))
    error = Failures(PackageError).while_running(PackageError("bad regex"), False, asked)
    assert isinstance(error, InvalidRequest)
    assert error.param == "response_format"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, None),
        ({"kvCacheStats": None}, None),
        ({"kvCacheStats": {"maxNumBlocks": 0}}, None),
        (
            {"kvCacheStats": {"maxNumBlocks": 10, "usedNumBlocks": 4, "tokensPerBlock": 32}},
            KvUsage(320, 0.4),
        ),
        ({"kvCacheStats": {"maxNumBlocks": 10}}, KvUsage(0, 0.0)),
    ],
)
def test_the_fill_of_the_cache_where_it_is_told(record: Any, expected: KvUsage | None) -> None:
    assert _usage(record) == expected


def test_speculation_is_the_sum_of_all_records():
    records = [
        {"specDecodingStats": {"numDraftTokens": 6, "numAcceptedTokens": 4}},
        {"specDecodingStats": {"numDraftTokens": 3, "numAcceptedTokens": None}},
        {"specDecodingStats": None},
        {},
    ]
    assert _add_spec(SpecCounts(1, 1), records) == SpecCounts(10, 5)
