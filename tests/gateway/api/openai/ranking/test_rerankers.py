"""Rerankers, embedding models and generative ones over real HTTP, each asked for everything."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from gateway.settings.schema import ModelSettings, Settings
from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from runtime.llama_library.installed import installed_families
from runtime.tokenizers.load import load_tokenizer
from tests.kit.chat.answers import CHAT, EMBEDDINGS, HI, RERANK, RESPONSES, SCORE, TEXT, error_of
from tests.kit.chat.answers import good as good_answer
from tests.kit.models.tiny_encoder import (
    CLS,
    CONTEXT,
    SEP,
    Weights,
    encoded,
    logit,
    write_tiny_encoder,
)
from tests.kit.models.tiny_model import write_tiny_model
from tests.kit.serving import MODEL, RunningServer, running_server, wait_for

if "llama.cpp" not in installed_families():
    pytest.skip("no library here ranks", allow_module_level=True)

QUERY = "what is the capital of france?"
DOCUMENTS = ["paris is the capital of france.", "the cat sat on a mat", "", "who? [SEP] the fox"]
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HI},
    TEXT: {"prompt": "hi"},
    RESPONSES: {"input": "hi"},
    "/generate": {"prompt": "hi"},
    EMBEDDINGS: {"input": "hi"},
    RERANK: {"query": "a", "documents": ["b"]},
    SCORE: {"text_1": "a", "text_2": "b"},
}


def settings_for(**model: Any) -> Settings:
    engine = EngineConfig(llama_cpp=LlamaCppConfig(num_threads=1, use_extra_bufts=False))
    return Settings(model=ModelSettings(served_name=MODEL, **model), engine=engine)


class Served:
    """A model of a kind, with its weights, in a server."""

    def __init__(self, server: RunningServer, path: Path, weights: Weights) -> None:
        self.server = server
        self.weights = weights
        self._tokenizer = load_tokenizer(path)

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special=False, parse_special=False)

    def logit(self, query: str, document: str) -> float:
        first, second = [CLS, *self.ids(query), SEP], [*self.ids(document), SEP]
        segments = [0] * len(first) + [1] * len(second)
        return logit(self.weights, [*first, *second], segments)

    def vector(self, text: str) -> np.ndarray:
        token_ids = [CLS, *self.ids(text), SEP]
        mean = encoded(self.weights, token_ids, [0] * len(token_ids)).mean(axis=0)
        return mean / np.linalg.norm(mean)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("model") / "reranker.gguf"
    weights = write_tiny_encoder(path, "rank")
    with running_server(settings_for(), model_path=str(path)) as server:
        yield Served(server, path, weights)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """It is named as a model that wants prompts."""
    path = tmp_path_factory.mktemp("model") / "embedder.gguf"
    weights = write_tiny_encoder(path, "mean", name="e5-tiny")
    with running_server(settings_for(), model_path=str(path)) as server:
        yield Served(server, path, weights)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def by_document(answer: dict[str, Any]) -> list[float]:
    found = {each["index"]: each["relevance_score"] for each in answer["results"]}
    return [found[index] for index in range(len(found))]


def test_a_reranker_says_what_its_network_computes(reranker: Served):
    answer = good_answer(reranker.server.post(RERANK, query=QUERY, documents=DOCUMENTS))
    raw = good_answer(
        reranker.server.post(RERANK, query=QUERY, documents=DOCUMENTS, use_activation=False)
    )

    logits = [reranker.logit(QUERY, document) for document in DOCUMENTS]
    assert by_document(raw) == pytest.approx(logits, abs=0.03)
    assert by_document(answer) == pytest.approx([sigmoid(each) for each in logits], abs=0.01)
    num_tokens = sum(3 + len(reranker.ids(QUERY)) + len(reranker.ids(d)) for d in DOCUMENTS)
    assert answer["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


def test_a_reranker_scores_pairs(reranker: Served):
    answer = good_answer(reranker.server.post(SCORE, text_1=QUERY, text_2=DOCUMENTS[0]))
    [score] = [each["score"] for each in answer["data"]]

    assert score == pytest.approx(sigmoid(reranker.logit(QUERY, DOCUMENTS[0])), abs=0.01)


@pytest.mark.parametrize("cut", [{"truncate_prompt_tokens": -1}, {"max_tokens_per_doc": 100}])
def test_long_documents(reranker: Served, cut: dict[str, int]):
    long = "cat " * 500
    error = error_of(reranker.server.post(RERANK, query="who", documents=["a", long]))
    assert (error["param"], error["code"]) == ("documents[1]", "context_length_exceeded")
    assert f"reads {CONTEXT} tokens" in error["message"]
    answer = good_answer(reranker.server.post(RERANK, query="who", documents=[long], **cut))

    kept = "cat " * cut.get("max_tokens_per_doc", CONTEXT - 4)
    expected = sigmoid(reranker.logit("who", kept))
    assert by_document(answer) == pytest.approx([expected], abs=0.01)


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES, "/generate", EMBEDDINGS])
def test_a_reranker_names_what_it_does(reranker: Served, path: str):
    error = error_of(reranker.server.post(path, **BODIES[path]))

    assert (error["param"], error["code"]) == ("model", "unsupported_value")
    assert "/v1/rerank" in error["message"]


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES, "/generate"])
def test_an_embedding_model_names_what_it_does(embedder: Served, path: str):
    error = error_of(embedder.server.post(path, **BODIES[path]))

    assert (error["param"], error["code"]) == ("model", "unsupported_value")
    assert "/v1/embeddings" in error["message"]


def test_an_embedding_model_compares_by_its_prompts(embedder: Served):
    answer = good_answer(embedder.server.post(RERANK, query=QUERY, documents=DOCUMENTS))

    query = embedder.vector(f"query: {QUERY}")
    expected = [float(query @ embedder.vector(f"passage: {text}")) for text in DOCUMENTS]
    assert by_document(answer) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("field", "prompt"),
    [
        ({}, ""),
        ({"input_type": None}, ""),
        ({"input_type": "query"}, "query: "),
        ({"input_type": "search_document"}, "passage: "),
        ({"task": "retrieval.query"}, "query: "),
        ({"task_type": "RETRIEVAL_DOCUMENT"}, "passage: "),
        ({"prompt_name": "passage"}, "passage: "),
        ({"input_type": "clustering"}, ""),
    ],
)
def test_a_prompt_is_put_where_it_is_asked_for(
    embedder: Served, field: dict[str, Any], prompt: str
):
    response = embedder.server.post(EMBEDDINGS, input=["the fox"], **field)
    [entry] = good_answer(response)["data"]

    np.testing.assert_allclose(entry["embedding"], embedder.vector(prompt + "the fox"), atol=0.01)
    assert "x-ignored-parameters" not in response.headers


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "a", "input_type": "image"}, "input_type"),
        ({"input": "a", "task": "code.query"}, "task"),
        ({"input": [5, 6], "input_type": "query"}, "input_type"),
    ],
)
def test_what_no_prompt_is_for(embedder: Served, fields: dict[str, Any], param: str):
    assert error_of(embedder.server.post(EMBEDDINGS, **fields))["param"] == param


def test_a_model_that_wants_no_prompt_reports_the_wish(open_server: RunningServer):
    response = open_server.post(EMBEDDINGS, input="a", task="query")

    assert response.headers["x-ignored-parameters"] == "task"


@pytest.mark.parametrize("path", [RERANK, SCORE])
def test_a_generative_model_says_that_it_does_not_rank(tiny_server: RunningServer, path: str):
    error = error_of(tiny_server.post(path, **BODIES[path]))

    assert (error["param"], error["code"]) == ("model", "unsupported_value")
    assert "reranker" in error["message"]


def test_a_model_that_answers_yes_or_no(tmp_path: Path):
    path = write_tiny_model(tmp_path / "reranker.gguf", architecture="qwen3", ranks=True)
    with running_server(settings_for(), model_path=str(path)) as server:
        scores = by_document(good_answer(server.post(RERANK, query=QUERY, documents=DOCUMENTS)))
        raw = server.post(RERANK, query="a", documents=["b"], use_activation=False)
        assert error_of(raw)["param"] == "use_activation"

    assert all(0 < score < 1 for score in scores)
    assert len(set(scores)) == len(DOCUMENTS)


@pytest.mark.slow
def test_an_engine_that_dies_in_between_loses_no_score(tmp_path: Path):
    """The scores are those of an engine that lives."""
    write_tiny_encoder(tmp_path / "reranker.gguf", "rank")
    many = [f"the fox {number}" for number in range(2000)]
    path = str(tmp_path / "reranker.gguf")
    with running_server(settings_for(), model_path=path) as server, ThreadPoolExecutor(1) as pool:
        whole = by_document(good_answer(server.post(RERANK, query=QUERY, documents=many)))
        answer = pool.submit(server.post, RERANK, query=QUERY, documents=many)
        wait_for(lambda: server.metric("num_requests_running") == 1)
        engines = [p for p in psutil.Process().children() if "runtime.worker" in p.cmdline()]
        max(engines, key=lambda process: process.create_time()).kill()  # the newest is `server`'s

        assert by_document(good_answer(answer.result())) == pytest.approx(whole, abs=1e-4)
        assert server.health()["progress"]["num_deaths"] == 1
