"""The embedded engine's log-probabilities, stop tokens and rules, on a tiny random model."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from runtime.config.engine import EngineConfig
from runtime.engines.base import SequenceOutput
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.errors import InvalidRequest
from runtime.messages.request import Request, TokenLogprobs
from runtime.tokenizers.load import load_tokenizer
from tests.kit.engines import ONE_THREAD, a_request, needs_llama_library

needs_llama_library()

NUM_TOP = 4
TOLERANCE = 0.01
"""In log-probability, between batches of different shapes: llama.cpp rounds differently there."""


class RecordingEngine(LlamaCppEngine):
    """Notes the log-probabilities of all rows that somebody samples from."""

    def __init__(self, path: Path, **settings: object) -> None:
        settings.setdefault("max_num_seqs", 4)
        settings.setdefault("num_kv_tokens", 512)
        config = EngineConfig(llama_cpp=ONE_THREAD, **settings)  # type: ignore[arg-type]
        super().__init__(config, str(path), load_tokenizer(path))
        self.rows: list[np.ndarray] = []

    def _advance(self, sequence, row):  # type: ignore[no-untyped-def]
        logits = self._model.logits(row).astype(np.float64)
        self.rows.append(logits - np.logaddexp.reduce(logits))
        return super()._advance(sequence, row)

    def run(self, *requests: Request) -> dict[str, list[SequenceOutput]]:
        """All outputs of these requests; who gives way comes back."""
        self.rows.clear()
        outputs: dict[str, list[SequenceOutput]] = {each.request_id: [] for each in requests}
        waiting = list(requests)
        while waiting or self.num_running:
            while waiting and self.can_add(waiting[0]):
                self.add(waiting.pop(0))
            for output in self.step():
                outputs[output.request_id].append(output)
            waiting += self.take_preempted()
            self._kv_cache.check_integrity()
        return outputs


@pytest.fixture(scope="module")
def shared(tiny_model_path: Path) -> Iterator[RecordingEngine]:
    engine = RecordingEngine(tiny_model_path)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: RecordingEngine) -> Iterator[RecordingEngine]:
    yield shared
    assert shared.num_running == 0
    assert shared.take_usage().kv_cache_usage == 0


def request(request_id: str = "r", num_prompt: int = 12, **fields: object) -> Request:
    random = np.random.default_rng(num_prompt)
    plain = {"temperature": 0.0, "ignore_eos": True}
    prompt = random.integers(10, 250, num_prompt).tolist()
    return a_request(request_id, prompt_token_ids=prompt, **{**plain, **fields})


def tokens_of(outputs: list[SequenceOutput]) -> list[int]:
    return [token for output in outputs for token in output.token_ids]


def logprobs_of(outputs: list[SequenceOutput]) -> list[TokenLogprobs]:
    return [entry for output in outputs for entry in output.logprobs or []]


def close(one: list[float], other: list[float]) -> bool:
    return one == pytest.approx(other, abs=TOLERANCE)


@pytest.mark.parametrize("temperature", [0.0, 5.0])
def test_logprobs_are_the_models_own(engine: RecordingEngine, temperature: float):
    """Before temperature, bias and penalties; the chosen token's is told though it is unlikely."""
    asked = request(
        temperature=temperature,
        seed=5,
        logprobs=NUM_TOP,
        frequency_penalty=1.0,
        logit_bias={11: 5.0, 12: -100.0},
    )
    outputs = engine.run(asked)["r"]

    rows = list(engine.rows)
    assert len(rows) == len(tokens_of(outputs)) == len(logprobs_of(outputs)) == 8
    for row, token, entry in zip(rows, tokens_of(outputs), logprobs_of(outputs), strict=True):
        likeliest = np.argsort(-row, kind="stable")[:NUM_TOP].tolist()
        assert entry.logprob == pytest.approx(row[token], abs=1e-4)
        assert entry.rank == 1 + int((row > row[token]).sum())
        assert [other for other, _ in entry.top] == likeliest
        assert [logprob for _, logprob in entry.top] == pytest.approx(row[likeliest], abs=1e-4)


def test_no_logprobs_unless_asked_for(engine: RecordingEngine):
    plain = engine.run(request())["r"]
    zero = engine.run(request(logprobs=0))["r"]

    assert all(output.logprobs is None and output.prompt_logprobs is None for output in plain)
    assert all(not entry.top for entry in logprobs_of(zero))
    assert tokens_of(plain) == tokens_of(zero)


@pytest.mark.parametrize("budget", [8, 256])
def test_scores_of_a_prompt_are_those_of_writing_it(
    tiny_model_path: Path, engine: RecordingEngine, budget: int
):
    """Each token of an answer scored as it was sampled, then the same tokens as a prompt: in small
    chunks and in one, beside another sequence, after the prefix has been cached."""
    first = engine.run(request(num_prompt=3, max_tokens=150, logprobs=2))["r"]
    written = [*request(num_prompt=3).prompt_token_ids, *tokens_of(first)]
    scored = msgspec.structs.replace(
        request("scored", max_tokens=2, prompt_logprobs=2), prompt_token_ids=written
    )
    other = RecordingEngine(tiny_model_path, max_num_batched_tokens=budget)
    other.run(msgspec.structs.replace(request("warm"), prompt_token_ids=written))
    outputs = other.run(request("beside", num_prompt=30, max_tokens=20), scored)["scored"]
    other.close()

    told, later = outputs
    assert later.prompt_logprobs is None
    assert told.prompt_logprobs is not None
    assert len(told.prompt_logprobs) == len(written)
    assert told.prompt_logprobs[0] is None
    assert told.num_cached_tokens == 0
    scores = [entry for entry in told.prompt_logprobs[3:] if entry is not None]
    assert close([e.logprob for e in scores], [e.logprob for e in logprobs_of(first)])
    assert all(len(entry.top) == 2 for entry in scores)


def test_a_prompt_can_be_scored_without_an_answer(engine: RecordingEngine):
    [output] = engine.run(request(num_prompt=9, max_tokens=0, prompt_logprobs=0))["r"]

    assert (output.token_ids, output.finish_reason) == ([], "length")
    assert output.prompt_logprobs is not None
    assert len(output.prompt_logprobs) == 9
    [alone] = engine.run(request(num_prompt=1, max_tokens=0, prompt_logprobs=0))["r"]
    assert alone.prompt_logprobs == [None]


def test_what_was_scored_can_be_reused(engine: RecordingEngine):
    """Scoring reads no cache and fills it."""
    engine.run(request("scores", num_prompt=70, prompt_logprobs=0))
    [first, *_] = engine.run(request("reads", num_prompt=70))["reads"]

    assert first.num_cached_tokens == 69


def test_preempted_sequences_tell_everything_once(tiny_model_path: Path, engine: RecordingEngine):
    """In a cache that is too small for all: same tokens, same scores, the prompt's once."""
    requests = [
        request(
            str(number),
            num_prompt=60 + number,
            max_tokens=60,
            temperature=0.7,
            seed=number,
            logprobs=1,
            prompt_logprobs=1,
            repetition_penalty=1.3,
            min_tokens=50,
        )
        for number in range(3)
    ]
    alone = {each.request_id: engine.run(each)[each.request_id] for each in requests}
    small = RecordingEngine(tiny_model_path, num_kv_tokens=256, max_model_len=200)
    together = small.run(*requests)

    assert small.take_usage().num_preempted > 0
    for key, outputs in together.items():
        assert [o.prompt_logprobs is not None for o in outputs].count(True) == 1
        assert outputs[0].prompt_logprobs is not None
        assert len(logprobs_of(outputs)) == len(tokens_of(outputs)) == 60
        assert tokens_of(outputs) == tokens_of(alone[key])
        wanted = [entry.logprob for entry in logprobs_of(alone[key])]
        assert close([entry.logprob for entry in logprobs_of(outputs)], wanted)
    small.close()


def test_stop_tokens_end_an_answer_but_not_before_min_tokens(engine: RecordingEngine):
    plain = tokens_of(engine.run(request(max_tokens=12))["r"])
    stop = plain[3]
    stopped = engine.run(request(max_tokens=12, stop_token_ids=(stop,)))["r"]
    forced = engine.run(request(max_tokens=12, stop_token_ids=(stop,), min_tokens=8))["r"]

    assert tokens_of(stopped) == plain[: plain.index(stop) + 1]
    assert stopped[-1].finish_reason == "stop"
    assert stop not in tokens_of(forced)[:8]
    assert len(tokens_of(forced)) >= 8


def test_bias_forces_and_forbids(engine: RecordingEngine):
    forced = tokens_of(engine.run(request(logit_bias={77: 100.0}))["r"])
    plain = tokens_of(engine.run(request())["r"])
    forbidden = tokens_of(engine.run(request(logit_bias=dict.fromkeys(plain, -100.0)))["r"])

    assert set(forced) == {77}
    assert not set(plain) & set(forbidden)


def test_the_repetition_penalty_looks_at_the_prompt(engine: RecordingEngine):
    """Beyond any logit: a greedy answer then has no token of the prompt, and none twice."""
    asked = request(max_tokens=40, num_prompt=40, repetition_penalty=1000.0)
    said = tokens_of(engine.run(asked)["r"])

    assert len(set(said)) == len(said)
    assert not set(said) & set(asked.prompt_token_ids)


@pytest.mark.parametrize("field", ["logit_bias", "stop_token_ids"])
def test_tokens_that_the_model_does_not_have_are_refused(engine: RecordingEngine, field: str):
    value = {10**6: 1.0} if field == "logit_bias" else (10**6,)
    with pytest.raises(InvalidRequest, match="outside") as caught:
        engine.add(request(**{field: value}))

    assert caught.value.param == field
