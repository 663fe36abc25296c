"""What goes wrong in the TensorRT-LLM engine, and whom it hurts."""

import json
import sys
import time
from pathlib import Path

import pytest

from runtime.config.engine import EngineConfig
from runtime.engines import create_engine
from runtime.errors import EngineFatal, MissingExtra, SetupError
from runtime.messages.wire import RequestFailed, StepOutput
from runtime.tokenizers.load import load_tokenizer
from runtime.worker.core import EngineCore
from tests.kit.engines import engine_answers
from tests.kit.models.tensorrt_model import write_tensorrt_model
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


@only("release", [STABLE], indirect=True)
def test_a_hang_is_noticed(make: Make) -> None:
    engine = make(
        {"no_progress_timeout": 0.3}, plan={**PLAIN, "faults": [{"kind": "hang", "after": 2}]}
    )
    engine.add(request())
    started = time.monotonic()
    with pytest.raises(EngineFatal, match="no_progress_timeout"):
        list(steps(engine))
    assert time.monotonic() - started < 5


@only("release", [STABLE], indirect=True)
def test_a_request_that_waits_for_memory_is_no_hang(make: Make) -> None:
    """The package lets it in when another has ended; that one gets tokens meanwhile."""
    engine = make(
        {"no_progress_timeout": 0.3},
        max_num_seqs=2,
        plan={**PLAIN, "step_ms": 2, "kv_tokens": 400},
    )
    requests = [request("first", max_tokens=300), request("second", max_tokens=300)]

    whole = engine_answers(engine, *requests)

    assert {len(answer.token_ids) for answer in whole.values()} == {300}


def test_a_model_that_does_not_load_is_the_operators_to_mend(make: Make) -> None:
    with pytest.raises(SetupError, match=r"insufficient GPU memory.*engine\.tensorrt_llm"):
        make(plan={"faults": [{"kind": "out_of_memory"}]})


@only("release", [STABLE, EARLY], indirect=True)
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
        assert engine_answers(engine, asked)["r"].token_ids == penalised(
            [1, 2, 3], 20, asked.sampling
        )
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


@only("release", [EARLY, LATE], indirect=True)
def test_a_loop_that_ends_takes_nobodys_request_with_it(make: Make) -> None:
    """Late releases answer every running request with the loop's error. It is not theirs: the
    engine ends, and all of them go on in the next one."""
    fault = {"kind": "loop_terminates", "prompt_has": 9, "after": 2}
    engine = make(plan={**PLAIN, "step_ms": 1, "faults": [fault]})
    engine.add(request("other", max_tokens=300))
    engine.add(request("last", prompt_token_ids=[9]))
    with pytest.raises(EngineFatal, match="Event loop terminated"):
        list(steps(engine))
    assert not engine.take_failed()


def test_unequal_scores_are_one_requests_error(make: Make) -> None:
    fault = {"kind": "unequal_logprobs", "prompt_has": 9, "after": 2}
    engine = make(plan={**PLAIN, "faults": [fault]})
    engine.add(request("bad", prompt_token_ids=[9], logprobs=1))
    engine.add(request("good", logprobs=1))
    outputs = [output for batch in steps(engine) for output in batch]

    [failed] = engine.take_failed()
    assert failed.request_id == "bad"
    tokens = [t for output in outputs if output.request_id == "good" for t in output.token_ids]
    assert tokens == expected(PLAIN, [1, 2, 3], 8)
