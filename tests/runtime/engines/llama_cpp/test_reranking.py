"""The scores of rerankers on a real llama.cpp, against what their networks compute."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from runtime.engines.base import Engine
from runtime.engines.llama_cpp.loading import create
from runtime.errors import InvalidRequest, LibraryUnusable, SetupError
from runtime.llama_library.installed import installed_families, open_library
from runtime.llama_library.results import floats_at
from runtime.llama_library.token_batch import TokenBatch
from runtime.llama_library.values import ContextOptions, ModelOptions
from runtime.tokenizers.load import load_tokenizer
from tests.kit.engines import a_request
from tests.kit.models.tiny_encoder import SEP, Weights, logit, write_tiny_encoder
from tests.kit.models.tiny_model import write_tiny_model

if "llama.cpp" not in installed_families():
    pytest.skip("no library here ranks", allow_module_level=True)

CONFIG = EngineConfig(llama_cpp=LlamaCppConfig(num_threads=1, use_extra_bufts=False))
WORDS = st.lists(st.integers(5, 60), min_size=1, max_size=20)


@contextmanager
def loaded(path: Path, config: EngineConfig = CONFIG) -> Iterator[Engine]:
    engine = create(config, str(path), load_tokenizer(path))
    try:
        yield engine
    finally:
        engine.close()


def scores(engine: Engine, texts: Sequence[Sequence[int]]) -> list[float]:
    assert engine.embedder is not None
    for index, token_ids in enumerate(texts):
        assert engine.embedder.can_add(len(token_ids))
        engine.embedder.add(("r", index), token_ids)
    found: dict[int, float] = {}
    while len(found) < len(texts):
        for (_, index), data in engine.embedder.step(0.0):
            [found[index]] = np.frombuffer(data, "<f4").tolist()
    return [found[index] for index in range(len(texts))]


def segments_of(text: Sequence[int]) -> list[int]:
    end = text.index(SEP) + 1
    return [0] * end + [1] * (len(text) - end)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Weights]]:
    path = tmp_path_factory.mktemp("model") / "reranker.gguf"
    weights = write_tiny_encoder(path, "rank")
    with loaded(path) as engine:
        yield engine, weights


@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
def test_a_bert_scores_both_segments(
    bert: tuple[Engine, Weights], pairs: list[tuple[list[int], list[int]]]
):
    engine, weights = bert
    texts = [[2, *query, SEP, *document, SEP] for query, document in pairs]

    expected = [logit(weights, text, segments_of(text)) for text in texts]
    np.testing.assert_allclose(scores(engine, texts), expected, atol=0.03)


def test_the_segments_count(bert: tuple[Engine, Weights]):
    """What the other tests compare with is not what one segment gives."""
    text = [2, 10, 11, 12, SEP, 20, 21, SEP]
    both, one = (logit(bert[1], text, each) for each in (segments_of(text), [0] * len(text)))
    assert abs(both - one) > 0.1


def test_it_does_nothing_else(bert: tuple[Engine, Weights]):
    engine, _ = bert
    assert (engine.limits.scoring, engine.limits.can_generate) == ("logit", False)
    with pytest.raises(InvalidRequest, match="/v1/rerank"):
        engine.prepare(a_request())


def test_a_qwen3_gives_the_probability_of_yes(tmp_path: Path):
    """Longer than what a generative model reads at once; and the texts beside each other."""
    ranking = write_tiny_model(tmp_path / "ranks.gguf", architecture="qwen3", ranks=True)
    texts = [[5, 6, 7], list(range(5, 300)), [9, 8, 7, 6, 5]]
    with loaded(ranking) as engine:
        found = scores(engine, texts)
        assert engine.limits.scoring == "probability"

    plain = write_tiny_model(tmp_path / "plain.gguf", architecture="qwen3")
    np.testing.assert_allclose(found, [_share_of_first(plain, text) for text in texts], atol=0.01)
    assert max(found) - min(found) > 0.05


def _share_of_first(path: Path, token_ids: list[int]) -> float:
    """How likely the first token of the vocabulary is to come next, beside the second."""
    library = open_library("llama.cpp")
    model = library.load_model(str(path), ModelOptions())
    assert model is not None
    options = ContextOptions(
        num_cells=512, max_batch=512, max_rows=512, max_sequences=1, num_threads=1
    )
    context = library.new_context(model, options)
    batch = TokenBatch(library, max_tokens=512, max_ids=1)
    batch.put(token_ids, 0, (0,), wanted=True)
    assert library.decode(context, batch.data) == 0
    yes, no = np.exp(floats_at(library.logits(context, len(token_ids) - 1), 2).astype(float))
    library.free_context(context)
    library.free_model(model)
    return float(yes / (yes + no))


def test_what_sorts_into_classes_is_no_reranker(tmp_path: Path):
    write_tiny_encoder(tmp_path / "classes.gguf", "rank", num_labels=3)
    with pytest.raises(SetupError, match="3 classes"), loaded(tmp_path / "classes.gguf"):
        pass


@pytest.mark.skipif("ik_llama.cpp" not in installed_families(), reason="it is not installed")
def test_a_library_that_cannot_rank_is_named(tmp_path: Path):
    write_tiny_encoder(tmp_path / "reranker.gguf", "rank")
    config = EngineConfig(llama_cpp=LlamaCppConfig(library="ik_llama.cpp"))
    with pytest.raises(LibraryUnusable, match="does not rank"):
        create(config, str(tmp_path / "reranker.gguf"), load_tokenizer(""))
