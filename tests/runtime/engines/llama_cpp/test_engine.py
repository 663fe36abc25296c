"""The embedded engine on a tiny random model: real llama.cpp, real batches."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from runtime.config.engine import EngineConfig
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.engines.llama_cpp.sampling.sampler import Sampler
from runtime.errors import ContextLengthExceeded, InvalidRequest, ModelFileError
from runtime.messages.request import Request
from runtime.tokenizers.load import load_tokenizer
from tests.kit.engines import ONE_THREAD, a_request, needs_llama_library
from tests.kit.models.tiny_model import write_tiny_model

needs_llama_library()


class Answer(NamedTuple):
    """Tokens, and the log-probabilities that each was chosen from where sampling was greedy."""

    tokens: list[int]
    log_probabilities: list[np.ndarray]


class RecordingEngine(LlamaCppEngine):
    """Keeps the log-probabilities of greedy sequences."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.recorded: dict[str, list[np.ndarray]] = {}

    def add(self, request: Request) -> None:
        super().add(request)
        sequence = self._scheduler.sequences()[-1]
        rows = self.recorded.setdefault(request.request_id, [])
        if not request.output_token_ids:
            rows.clear()
        sequence.sampler = Recorder(sequence.sampler, rows)  # type: ignore[assignment]


class Recorder:
    """A sampler that leaves a trace."""

    def __init__(self, sampler: Sampler, rows: list[np.ndarray]) -> None:
        self._sampler = sampler
        self._rows = rows

    def sample(self, logits: np.ndarray, allowed: np.ndarray | None = None) -> int:
        wide = logits.astype(np.float64)
        self._rows.append(wide - np.logaddexp.reduce(wide))
        return self._sampler.sample(logits, allowed)


def assert_agree(one: dict[str, Answer], other: dict[str, Answer]) -> None:
    """Equal tokens. Where rounding in another batch turns a tie, the log-probabilities of the two
    candidates are within 1e-2 on both sides; what follows is another text."""
    assert one.keys() == other.keys()
    for request_id, (tokens, rows) in one.items():
        others = other[request_id]
        assert len(tokens) == len(others.tokens)
        pairs = enumerate(zip(tokens, others.tokens, strict=True))
        parted = next((number for number, (a, b) in pairs if a != b), None)
        if parted is not None:
            first, second = tokens[parted], others.tokens[parted]
            for row in (rows[parted], others.log_probabilities[parted]):
                assert abs(row[first] - row[second]) < 1e-2


def start(path: Path, **settings: object) -> RecordingEngine:
    settings.setdefault("max_num_seqs", 8)
    settings.setdefault("num_kv_tokens", 512)
    config = EngineConfig(llama_cpp=ONE_THREAD, **settings)  # type: ignore[arg-type]
    return RecordingEngine(config, str(path), load_tokenizer(str(path)))


@pytest.fixture(scope="module")
def shared_engine(tiny_model_path: Path) -> Iterator[RecordingEngine]:
    engine = start(tiny_model_path)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine: RecordingEngine) -> Iterator[RecordingEngine]:
    yield shared_engine
    assert shared_engine.num_running == 0, "a test left a sequence behind"
    assert shared_engine.take_usage().kv_cache_usage == 0


def request(request_id: str = "r", num_prompt: int = 12, **sampling: object) -> Request:
    generator = random.Random(f"{request_id}/{num_prompt}")
    prompt = [generator.randrange(10, 250) for _ in range(num_prompt)]
    plain = {"prompt_token_ids": prompt, "max_tokens": 10, "temperature": 0.0, "ignore_eos": True}
    return a_request(request_id, **{**plain, **sampling})


def run(engine: RecordingEngine, *, steps: int = 10_000) -> dict[str, Answer]:
    """Step until all is done, or so many times: the answers so far. Who gives way comes back when
    there is room."""
    tokens: dict[str, list[int]] = {}
    preempted: list[Request] = []
    while (engine.num_running or preempted) and steps:
        while preempted and engine.can_add(preempted[0]):
            engine.add(preempted.pop(0))
        for output in engine.step():
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
        preempted += engine.take_preempted()
        steps -= 1
    return {key: Answer(value, list(engine.recorded[key])) for key, value in tokens.items()}


def test_a_greedy_answer_has_the_length_asked_for_and_repeats(engine: RecordingEngine):
    engine.add(request(max_tokens=10))
    first = run(engine)["r"].tokens
    engine.add(request(max_tokens=10))

    assert run(engine)["r"].tokens == first
    assert len(first) == 10


def test_a_batch_gives_the_tokens_that_each_gets_alone(engine: RecordingEngine):
    """Joining at different times, with prompts of different lengths."""
    requests = [request(str(number), num_prompt=3 + 7 * number) for number in range(6)]
    alone = {}
    for each in requests:
        engine.add(each)
        alone |= run(engine)

    together: dict[str, list[int]] = {each.request_id: [] for each in requests}
    for each in requests:
        engine.add(each)
        for request_id, answer in run(engine, steps=2).items():
            together[request_id] += answer.tokens
    for request_id, answer in run(engine).items():
        together[request_id] += answer.tokens

    recorded = {key: Answer(tokens, engine.recorded[key]) for key, tokens in together.items()}
    assert_agree(recorded, alone)


def test_a_prompt_read_in_chunks_gives_the_same_answer(tiny_model_path: Path, engine):
    engine.add(request(num_prompt=100))
    whole = run(engine)
    chunked = start(tiny_model_path, max_num_batched_tokens=16)
    chunked.add(request(num_prompt=100))

    assert_agree(run(chunked), whole)
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
    together = {key: Answer(tokens, small.recorded[key]) for key, (tokens, _) in together.items()}

    assert small.take_usage().num_preempted > 0
    assert_agree(together, alone)
    small.close()


def test_a_resumed_request_continues_its_greedy_answer(engine: RecordingEngine):
    whole = request(max_tokens=10)
    engine.add(whole)
    answer = run(engine)["r"]

    engine.add(msgspec.structs.replace(whole, output_token_ids=answer.tokens[:4]))

    rest = Answer(answer.tokens[4:], answer.log_probabilities[4:])
    again = run(engine)["r"]
    assert_agree({"r": Answer(again.tokens, engine.recorded["r"][-6:])}, {"r": rest})


def test_a_cached_prefix_gives_the_answer_that_a_computed_one_gives(tiny_model_path: Path, engine):
    """Prompts that branch off, one after another and together, against an engine that caches
    nothing."""
    common = request("common", num_prompt=60).prompt_token_ids
    requests = [
        msgspec.structs.replace(
            request(str(number), max_tokens=12),
            prompt_token_ids=[*common[: 20 + 10 * (number % 4)], 100 + number, 50, 60],
        )
        for number in range(8)
    ]
    fresh = start(tiny_model_path, prefix_caching="off")
    expected = {}
    for each in requests:
        fresh.add(each)
        expected |= run(fresh)
    assert fresh.take_usage().num_cached_tokens == 0
    fresh.close()

    found = {}
    for each in requests[:3]:
        engine.add(each)
        found |= run(engine)
    for each in requests[3:]:
        engine.add(each)
    found |= run(engine)

    assert engine.take_usage().num_cached_tokens > 100
    assert_agree(found, expected)


def test_a_prefix_keeps_the_cells_that_sliding_windows_have_passed(tmp_path: Path):
    """llama.cpp writes over cells that no window sees any more; those of a prefix that others go
    on from must stay. A long answer beside requests that go round the whole cache, then a branch
    off its beginning."""
    path = write_tiny_model(tmp_path / "gemma.gguf", window=16)
    first = request("first", num_prompt=60, max_tokens=400)
    prompt = [*first.prompt_token_ids[:30], 70, 71, 72]
    branch = msgspec.structs.replace(request("branch"), prompt_token_ids=prompt)
    fresh = start(path, prefix_caching="off")
    fresh.add(branch)
    expected = run(fresh)
    fresh.close()
    engine = start(path, num_kv_tokens=768)
    engine.add(first)
    for number in range(10):
        engine.add(request(f"beside {number}", num_prompt=90, max_tokens=5))
        while engine.num_running > 1:
            engine.step()
    assert engine.num_running == 1, "the long answer ends last"
    run(engine)
    engine.take_usage()

    engine.add(branch)
    found = run(engine)

    assert engine.take_usage().num_cached_tokens == 30
    assert_agree(found, expected)
    engine.close()


def test_a_seed_repeats_its_tokens_in_a_changing_batch(engine: RecordingEngine):
    sampled = request("seeded", temperature=1.0, seed=42, max_tokens=20)
    engine.add(sampled)
    alone = run(engine)["seeded"].tokens
    engine.add(request("other", max_tokens=5))
    engine.add(sampled)

    assert run(engine)["seeded"].tokens[:5] == alone[:5]

    engine.add(request("seeded", temperature=1.0, seed=43, max_tokens=20))
    assert run(engine)["seeded"].tokens != alone


def test_aborting_frees_cells_at_once(engine: RecordingEngine):
    engine.add(request("kept"))
    engine.add(request("dropped", max_tokens=400))
    engine.step()
    used = engine.take_usage().kv_cache_usage

    engine.abort("dropped")
    engine.abort("unknown")

    assert engine.take_usage().kv_cache_usage < used
    assert set(run(engine)) == {"kept"}


def test_penalties_forbid_what_has_been_said(engine: RecordingEngine):
    """A frequency penalty far beyond any logit: greedy decoding then never repeats a token."""
    engine.add(request(max_tokens=40, frequency_penalty=2.0, presence_penalty=2.0))
    penalised = run(engine)["r"].tokens
    engine.add(request(max_tokens=40))
    plain = run(engine)["r"].tokens

    assert len(set(penalised)) > len(set(plain))


def test_an_answer_stops_where_the_context_ends(tiny_model_path: Path):
    engine = start(tiny_model_path, max_model_len=32)
    engine.add(request(num_prompt=30, max_tokens=100))

    assert len(run(engine)["r"].tokens) == 2
    engine.close()


def test_bad_prompts_are_refused_and_leave_nothing_behind(engine: RecordingEngine):
    with pytest.raises(ContextLengthExceeded, match="length is 512 tokens"):
        engine.add(request(num_prompt=5000))
    with pytest.raises(InvalidRequest, match="no tokens"):
        engine.add(request(num_prompt=0))
    with pytest.raises(InvalidRequest, match="outside"):
        engine.add(a_request(prompt_token_ids=[10**6]))


def test_a_file_that_is_no_model_is_refused_with_its_name(tmp_path: Path, tiny_model_path: Path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(tiny_model_path.read_bytes()[:3000])

    with pytest.raises(ModelFileError, match=r"damaged\.gguf"):
        start_without_tokenizer(damaged, tiny_model_path)


def start_without_tokenizer(path: Path, tokenizer_path: Path) -> LlamaCppEngine:
    return LlamaCppEngine(EngineConfig(), str(path), load_tokenizer(str(tokenizer_path)))
