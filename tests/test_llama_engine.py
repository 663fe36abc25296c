"""The embedded engine on a tiny random model: real llama.cpp, real batches."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

from runtime import (
    ContextLengthExceeded,
    EngineConfig,
    InvalidRequest,
    LlamaCppConfig,
    ModelFileError,
    Request,
    SamplingParams,
    load_tokenizer,
)
from runtime.engines.llama_cpp.engine import LlamaCppEngine


def start(path: Path, **settings: object) -> LlamaCppEngine:
    settings.setdefault("max_num_seqs", 8)
    settings.setdefault("num_kv_tokens", 512)
    config = EngineConfig(
        llama_cpp=LlamaCppConfig(num_threads=1, use_extra_bufts=False),
        **settings,  # type: ignore[arg-type]
    )
    return LlamaCppEngine(config, str(path), load_tokenizer(str(path)))


@pytest.fixture(scope="module")
def shared_engine(tiny_model_path: Path) -> Iterator[LlamaCppEngine]:
    engine = start(tiny_model_path)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine: LlamaCppEngine) -> Iterator[LlamaCppEngine]:
    yield shared_engine
    assert shared_engine.num_running == 0, "a test left a sequence behind"
    assert shared_engine.take_usage().kv_cache_usage == 0


def request(request_id: str = "r", num_prompt: int = 12, **sampling: object) -> Request:
    generator = random.Random(f"{request_id}/{num_prompt}")
    sampling.setdefault("max_tokens", 10)
    sampling.setdefault("temperature", 0.0)
    return Request(
        request_id=request_id,
        prompt_token_ids=[generator.randrange(10, 250) for _ in range(num_prompt)],
        sampling=SamplingParams(ignore_eos=True, **sampling),  # type: ignore[arg-type]
    )


def run(engine: LlamaCppEngine, *, steps: int = 10_000) -> dict[str, list[int]]:
    tokens: dict[str, list[int]] = {}
    while engine.num_running and steps:
        for output in engine.step():
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
        steps -= 1
    return tokens


def test_a_greedy_answer_has_the_length_asked_for_and_repeats(engine: LlamaCppEngine):
    engine.add(request(max_tokens=10))
    first = run(engine)["r"]
    engine.add(request(max_tokens=10))

    assert run(engine)["r"] == first
    assert len(first) == 10


def test_a_batch_gives_the_tokens_that_each_gets_alone(engine: LlamaCppEngine):
    """Joining at different times, with prompts of different lengths."""
    requests = [request(str(number), num_prompt=3 + 7 * number) for number in range(6)]
    alone = {}
    for each in requests:
        engine.add(each)
        alone |= run(engine)

    together: dict[str, list[int]] = {}
    for each in requests:
        engine.add(each)
        for request_id, tokens in run(engine, steps=2).items():
            together.setdefault(request_id, []).extend(tokens)
    for request_id, tokens in run(engine).items():
        together.setdefault(request_id, []).extend(tokens)

    assert together == alone


def test_a_prompt_read_in_chunks_gives_the_same_answer(tiny_model_path: Path, engine):
    engine.add(request(num_prompt=100))
    whole = run(engine)
    chunked = start(tiny_model_path, max_num_batched_tokens=16)
    chunked.add(request(num_prompt=100))

    assert run(chunked) == whole
    chunked.close()


def test_preempted_sequences_end_with_the_same_tokens(tiny_model_path: Path, engine):
    requests = [request(str(number), num_prompt=60, max_tokens=60) for number in range(3)]
    alone = {}
    for each in requests:
        engine.add(each)
        alone |= run(engine)

    small = start(tiny_model_path, num_kv_tokens=256, max_model_len=200)
    for each in requests:
        assert small.can_add(each)
        small.add(each)
    together = run(small)

    assert small.take_usage().num_preempted > 0
    assert together == alone
    small.close()


def test_a_resumed_request_continues_its_greedy_answer(engine: LlamaCppEngine):
    whole = request(max_tokens=10)
    engine.add(whole)
    tokens = run(engine)["r"]
    resumed = Request(
        request_id="r",
        prompt_token_ids=whole.prompt_token_ids,
        output_token_ids=tokens[:4],
        sampling=whole.sampling,
    )

    engine.add(resumed)

    assert run(engine)["r"] == tokens[4:]


def test_a_seed_repeats_its_tokens_in_a_changing_batch(engine: LlamaCppEngine):
    sampled = request("seeded", temperature=1.0, seed=42, max_tokens=20)
    engine.add(sampled)
    alone = run(engine)["seeded"]
    engine.add(request("other", max_tokens=5))
    engine.add(sampled)

    assert run(engine)["seeded"] == alone

    engine.add(request("seeded", temperature=1.0, seed=43, max_tokens=20))
    assert run(engine)["seeded"] != alone


def test_aborting_frees_cells_at_once(engine: LlamaCppEngine):
    engine.add(request("kept"))
    engine.add(request("dropped", max_tokens=400))
    engine.step()
    used = engine.take_usage().kv_cache_usage

    engine.abort("dropped")
    engine.abort("unknown")

    assert engine.take_usage().kv_cache_usage < used
    assert set(run(engine)) == {"kept"}


def test_penalties_forbid_what_has_been_said(engine: LlamaCppEngine):
    """A frequency penalty far beyond any logit: greedy decoding then never repeats a token."""
    engine.add(request(max_tokens=40, frequency_penalty=2.0, presence_penalty=2.0))
    penalised = run(engine)["r"]
    engine.add(request(max_tokens=40))
    plain = run(engine)["r"]

    assert len(set(penalised)) > len(set(plain))


def test_an_answer_stops_where_the_context_ends(tiny_model_path: Path):
    engine = start(tiny_model_path, max_model_len=32)
    engine.add(request(num_prompt=30, max_tokens=100))

    assert len(run(engine)["r"]) == 2
    engine.close()


def test_bad_prompts_are_refused_and_leave_nothing_behind(engine: LlamaCppEngine):
    with pytest.raises(ContextLengthExceeded, match="511"):
        engine.add(request(num_prompt=5000))
    with pytest.raises(InvalidRequest, match="no tokens"):
        engine.add(request(num_prompt=0))
    with pytest.raises(InvalidRequest, match="outside"):
        engine.add(
            Request(request_id="r", prompt_token_ids=[10**6], sampling=SamplingParams(max_tokens=1))
        )


def test_a_file_that_is_no_model_is_refused_with_its_name(tmp_path: Path, tiny_model_path: Path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(tiny_model_path.read_bytes()[:3000])

    with pytest.raises(ModelFileError, match=r"damaged\.gguf"):
        start_without_tokenizer(damaged, tiny_model_path)


def start_without_tokenizer(path: Path, tokenizer_path: Path) -> LlamaCppEngine:
    return LlamaCppEngine(EngineConfig(), str(path), load_tokenizer(str(tokenizer_path)))
