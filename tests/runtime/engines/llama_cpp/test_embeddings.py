"""Embeddings of a real llama.cpp: a tiny random model that also generates."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from runtime.engines.llama_cpp.embedding.embedder import LlamaEmbedder
from runtime.engines.llama_cpp.embedding.encoder import EncoderEngine
from runtime.engines.llama_cpp.weights import load_weights
from runtime.llama_library.installed import installed_families
from tests.kit.engines import ONE_THREAD
from tests.kit.models.tiny_encoder import WIDTH, PoolingName, encoded, write_tiny_encoder

TEXTS = [[7], [3, 5, 7, 9], list(range(200)), [9, 7, 5, 3], [3, 5, 7, 9]]


@pytest.fixture(scope="module")
def embedder(tiny_model_path: Path) -> Iterator[LlamaEmbedder]:
    config = EngineConfig(llama_cpp=ONE_THREAD)
    weights = load_weights(config, str(tiny_model_path))
    embedder = LlamaEmbedder(config, weights, 512)
    embedder.open()
    yield embedder
    embedder.close()
    weights.close()


def embed(embedder: LlamaEmbedder, texts: list[list[int]], seconds: float = 1.0) -> np.ndarray:
    for index, token_ids in enumerate(texts):
        assert embedder.can_add(len(token_ids))
        embedder.add(("r", index), token_ids)
    vectors: dict[int, bytes] = {}
    while len(vectors) < len(texts):
        vectors.update({index: vector for (_, index), vector in embedder.step(seconds)})
    return np.stack([np.frombuffer(vectors[index], "<f4") for index in range(len(texts))])


def test_a_batch_is_as_one_by_one_and_in_pieces(embedder: LlamaEmbedder):
    """The long text is longer than a batch; with no time at all it is read in the least pieces."""
    together = embed(embedder, TEXTS)
    alone = np.concatenate([embed(embedder, [text]) for text in TEXTS])
    in_pieces = embed(embedder, TEXTS, seconds=0.0)

    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(together, in_pieces, atol=1e-4)
    np.testing.assert_allclose(together[1], together[4], atol=1e-4)
    assert together[1] @ together[3] < 0.999  # order matters


def test_what_is_removed_leaves_its_room(embedder: LlamaEmbedder):
    embedder.add(("gone", 0), list(range(300)))
    embedder.step(0.0)
    assert not embedder.can_add(300)
    embedder.remove(("gone", 0))

    assert embedder.can_add(300)
    np.testing.assert_allclose(embed(embedder, [[3, 5]]), embed(embedder, [[3, 5]]), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_an_encoder_pools_as_its_file_says(tmp_path: Path, pooling: PoolingName):
    weights = write_tiny_encoder(tmp_path / "encoder.gguf", pooling)
    texts = [[2, 9, 10, 11, 3], [2, 30, 3], [2, *range(5, 90), 3]]
    loaded = load_weights(EngineConfig(llama_cpp=ONE_THREAD), str(tmp_path / "encoder.gguf"))
    engine = EncoderEngine(EngineConfig(llama_cpp=ONE_THREAD), loaded)
    try:
        found = embed(engine.embedder, texts)
    finally:
        engine.close()

    for text, vector in zip(texts, found, strict=True):
        rows = encoded(weights, text, [0] * len(text))
        expected = {"mean": rows.mean(axis=0), "cls": rows[0], "last": rows[-1]}[pooling]
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=5e-3)
    assert (engine.limits.scoring, engine.limits.embedding_width) == ("cosine", WIDTH)


@pytest.mark.parametrize("library", installed_families())
def test_short_texts_of_an_encoder(tmp_path: Path, library: str):
    """Alone and together, in every number of rows up to nine."""
    weights = write_tiny_encoder(tmp_path / "encoder.gguf", "mean")
    llama_cpp = LlamaCppConfig(library=library, num_threads=1, use_extra_bufts=False)
    loaded = load_weights(EngineConfig(llama_cpp=llama_cpp), str(tmp_path / "encoder.gguf"))
    engine = EncoderEngine(EngineConfig(llama_cpp=llama_cpp), loaded)
    random = np.random.default_rng(0)
    try:
        for lengths in (each for n in (1, 2, 3) for each in product((1, 2, 3, 4, 5), repeat=n)):
            texts = [random.integers(5, 60, length).tolist() for length in lengths]
            means = [encoded(weights, text, [0] * len(text)).mean(axis=0) for text in texts]
            expected = [mean / np.linalg.norm(mean) for mean in means]
            found = embed(engine.embedder, texts)
            np.testing.assert_allclose(found, expected, atol=5e-3, err_msg=str(lengths))
    finally:
        engine.close()
