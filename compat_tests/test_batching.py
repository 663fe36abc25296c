"""What the scheduler computes against a llama.cpp library alone, log-probability by
log-probability."""

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from benchmarks.bare_loop import BareLoop
from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.engines.llama_cpp.sampling.sampler import Flags, Floats, Sampler
from runtime.llama_library.installed import installed_families
from runtime.messages.request import Request, SamplingParams
from runtime.models.store import ModelStore
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer

NUM_TOKENS = 16
PROMPTS = [
    "def quicksort(items):",
    "The three laws of robotics are",
    "SELECT name FROM users WHERE",
    "Once upon a time there was",
    "import numpy as np\n",
    "In 1969 the first",
    "<html><body>",
    "Die Hauptstadt von Deutschland ist",
]


class Recorder(Sampler):
    """Keeps the logits that each token was chosen from. `created` has all recorders, in order."""

    created: list["Recorder"]

    def __init__(
        self, params: SamplingParams, output_token_ids: Sequence[int], **tokens: Iterable[int]
    ) -> None:
        super().__init__(params, output_token_ids, **tokens)  # type: ignore[arg-type]
        self.rows: list[Floats] = []
        self.created.append(self)

    def sample(self, logits: Floats, allowed: Flags | None = None) -> int:
        self.rows.append(logits.copy())
        return super().sample(logits, allowed)


@pytest.fixture(scope="module")
def model_path(server) -> str:
    """The server fixture has pulled the model."""
    return str(ModelStore().find("qwen2.5-coder-0.5b-instruct").path)


@pytest.fixture(scope="module")
def tokenizer(model_path: str) -> Tokenizer:
    return load_tokenizer(model_path)


@pytest.fixture(scope="module", params=installed_families())
def library(request) -> str:
    """Each that is installed."""
    return request.param


@pytest.fixture(scope="module")
def bare(model_path: str, library: str) -> BareLoop:
    return BareLoop(model_path, library=library, num_threads=1, repacks=False)


def recording_engine(
    model_path: str, library: str, tokenizer: Tokenizer, patch: pytest.MonkeyPatch
) -> LlamaCppEngine:
    settings = LlamaCppConfig(
        library=library, num_threads=1, use_extra_bufts=False, repack_tensors=False
    )
    config = EngineConfig(llama_cpp=settings, num_kv_tokens=2048)
    patch.setattr(Recorder, "created", [], raising=False)
    patch.setattr("runtime.engines.llama_cpp.engine.Sampler", Recorder)
    return LlamaCppEngine(config, model_path, tokenizer)


@pytest.fixture
def engine(model_path: str, library: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch):
    engine = recording_engine(model_path, library, tokenizer, monkeypatch)
    yield engine
    engine.close()


def generate(engine, prompts: list[list[int]]) -> list[list[int]]:
    sampling = SamplingParams(max_tokens=NUM_TOKENS, temperature=0.0, ignore_eos=True)
    answers: list[list[int]] = [[] for _ in prompts]
    for number, prompt in enumerate(prompts):
        engine.add(Request(request_id=str(number), prompt_token_ids=prompt, sampling=sampling))
    while engine.num_running:
        for output in engine.step():
            answers[int(output.request_id)].extend(output.token_ids)
    return answers


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits.astype(np.float64))


@pytest.mark.parametrize("count", [1, len(PROMPTS)])
def test_the_engine_computes_what_its_library_computes(engine, bare, tokenizer, count: int):
    """The same prompts in the same batches: the same tokens, and log-probabilities of the likely
    ones within 1e-2. Whether a library itself computes the same for one row as for eight depends
    on its kernels for the processor at hand, and is not compared."""
    prompts = [
        tokenizer.encode(text, add_special=True, parse_special=True) for text in PROMPTS[:count]
    ]
    # The engine reads the shortest first. In another order the tokens lie in other cells, and sums
    # over them are rounded differently.
    prompts.sort(key=len)

    ours = generate(engine, prompts)
    theirs, expected = bare.trace(prompts, NUM_TOKENS)

    assert ours == theirs
    for number in range(count):
        for mine, reference in zip(Recorder.created[number].rows, expected[number], strict=True):
            likely = np.argsort(reference)[-5:]
            difference = log_probabilities(mine)[likely] - log_probabilities(reference)[likely]
            assert np.abs(difference).max() < 1e-2


@pytest.mark.skipif(len(installed_families()) < 2, reason="only one library is installed")
def test_both_libraries_compute_the_same_within_rounding(model_path, tokenizer, monkeypatch):
    """Until answers part at two tokens that are about as likely: the mean divergence is that of
    activations in 8 bits."""
    prompts = [tokenizer.encode(text, add_special=True, parse_special=True) for text in PROMPTS]
    engine = recording_engine(model_path, "ik_llama.cpp", tokenizer, monkeypatch)
    ours = generate(engine, prompts)
    engine.close()
    bare = BareLoop(model_path, library="llama.cpp", num_threads=1, repacks=False)
    theirs, expected = bare.trace(prompts, NUM_TOKENS)

    divergences = []
    for number, recorder in enumerate(Recorder.created):
        for position, (mine, reference) in enumerate(
            zip(recorder.rows, expected[number], strict=True)
        ):
            right = log_probabilities(reference)
            difference = right - log_probabilities(mine)
            divergences.append(float((np.exp(right) * difference).sum()))
            if ours[number][position] != theirs[number][position]:
                break
    assert len(divergences) > len(PROMPTS) * NUM_TOKENS / 2
    assert np.mean(divergences) < 0.005
    assert max(divergences) < 0.05
