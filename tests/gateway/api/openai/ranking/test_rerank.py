"""POST /v1/rerank and /v1/score over real HTTP, on the scripted engine's vectors."""

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.openai.ranking.inputs import best_first
from runtime.engines.scripted.embedder import scripted_vector
from tests.kit.chat.answers import RERANK, SCORE, error_of, good
from tests.kit.serving import (
    MODEL,
    RunningServer,
    running_server,
    scripted_settings,
    wait_for,
)

BOS = 256
TEXTS = st.sampled_from(["", "a", "b", "fox", "a fox", "naïve", "狐狸", "c" * 90])
SOME = settings(max_examples=25, deadline=None)


def cosine(first: str, second: str) -> float:
    a, b = (
        np.frombuffer(scripted_vector([BOS, *text.encode()]), "<f4").astype(float)
        for text in (first, second)
    )
    return float(a @ b)


def ranked(answer: dict[str, Any]) -> list[tuple[int, float]]:
    return [(result["index"], result["relevance_score"]) for result in answer["results"]]


def rerank(server: RunningServer, query: str, documents: Sequence[Any], **body: Any) -> Any:
    return good(server.post(RERANK, query=query, documents=documents, **body))


@SOME
@given(documents=st.lists(TEXTS, min_size=1, max_size=12))
def test_the_best_is_first_and_equals_keep_their_order(
    open_server: RunningServer, documents: list[str]
):
    found = ranked(rerank(open_server, "fox", documents))

    exact = [cosine("fox", document) for document in documents]
    order = sorted(range(len(documents)), key=lambda index: (-round(exact[index], 5), index))
    assert [index for index, _ in found] == order
    assert [score for _, score in found] == pytest.approx([exact[i] for i in order], abs=1e-6)


@SOME
@given(data=st.data(), documents=st.lists(TEXTS, min_size=1, max_size=8))
def test_the_scores_move_with_their_documents(
    open_server: RunningServer, data: st.DataObject, documents: list[str]
):
    moved = data.draw(st.permutations(range(len(documents))))
    before = dict(ranked(rerank(open_server, "a", documents)))
    after = dict(ranked(rerank(open_server, "a", [documents[index] for index in moved])))

    assert after == {place: before[index] for place, index in enumerate(moved)}


@SOME
@given(
    documents=st.lists(TEXTS, min_size=1, max_size=8),
    top_n=st.none() | st.integers(0, 10),
    has_texts=st.none() | st.booleans(),
    as_objects=st.booleans(),
)
def test_top_n_and_the_texts(
    open_server: RunningServer,
    documents: list[str],
    top_n: int | None,
    has_texts: bool | None,
    as_objects: bool,
):
    """The first of the whole ranking, whatever form the documents have."""
    whole = ranked(rerank(open_server, "b", documents))
    sent = [{"text": each} for each in documents] if as_objects else documents
    answer = rerank(open_server, "b", sent, top_n=top_n, return_documents=has_texts)

    assert ranked(answer) == whole[: top_n or None]
    for result in answer["results"]:
        text = {"document": {"text": documents[result["index"]]}}
        assert {k: v for k, v in result.items() if k == "document"} == (
            {} if has_texts is False else text
        )


def test_the_whole_answer(open_server: RunningServer):
    answer = rerank(open_server, "hi", ["ho", "hi"], top_n=1)

    assert answer == {
        "id": answer["id"],
        "model": MODEL,
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
        "results": [{"index": 1, "relevance_score": pytest.approx(1), "document": {"text": "hi"}}],
    }
    assert answer["id"].startswith("rerank-")


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_every_path_is_the_same(open_server: RunningServer, path: str):
    found = ranked(good(open_server.post(path, query="a", documents=["b", "a"])))

    assert found == ranked(rerank(open_server, "a", ["b", "a"]))


@SOME
@given(pairs=st.lists(st.tuples(TEXTS.filter(bool), TEXTS), min_size=2, max_size=6))
def test_pairs_are_scored_one_by_one(open_server: RunningServer, pairs: list[tuple[str, str]]):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    answer = good(open_server.post(SCORE, text_1=first, text_2=second))

    assert [each["index"] for each in answer["data"]] == list(range(len(pairs)))
    assert [each["score"] for each in answer["data"]] == pytest.approx(
        [cosine(a, b) for a, b in pairs], abs=1e-6
    )
    assert {each["object"] for each in answer["data"]} == {"score"}
    assert (answer["object"], answer["model"]) == ("list", MODEL)


@pytest.mark.parametrize("path", ["/score", SCORE])
@pytest.mark.parametrize(("one", "others"), [("text_1", "text_2"), ("queries", "documents")])
@pytest.mark.parametrize("texts", ["b", ["b"], ["b", "a"], [{"text": "b"}, "a"]])
def test_one_text_is_compared_with_each(
    open_server: RunningServer, path: str, one: str, others: str, texts: Any
):
    answer = good(open_server.post(path, **{one: "a", others: texts}))
    expected = [cosine("a", "b"), cosine("a", "a")][: len(texts)]

    assert [each["score"] for each in answer["data"]] == pytest.approx(expected, abs=1e-6)


LONG = "a" * 500
"""More tokens than the scripted engine's model reads."""

WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    (RERANK, {"query": "a", "documents": []}, "documents", "invalid_value"),
    (RERANK, {"query": "a"}, "documents", "missing_required_parameter"),
    (RERANK, {"documents": ["a"]}, "query", "missing_required_parameter"),
    (RERANK, {"query": "", "documents": ["a"]}, "query", "invalid_value"),
    (RERANK, {"query": {"text": ""}, "documents": ["a"]}, "query", "invalid_value"),
    (RERANK, {"query": "a", "documents": "b"}, "documents", "invalid_type"),
    (RERANK, {"query": "a", "documents": ["b", 3]}, "documents[1]", "invalid_type"),
    (
        RERANK,
        {"query": "a", "documents": ["b", {"image": "x"}]},
        "documents[1].text",
        "missing_required_parameter",
    ),
    (
        RERANK,
        {"query": "a", "documents": ["b", {"text": "b", "image": "x"}]},
        "documents[1].image",
        "unsupported_parameter",
    ),
    (RERANK, {"query": "a", "documents": ["b"], "top_n": -1}, "top_n", "invalid_value"),
    (RERANK, {"query": "a", "documents": ["b"], "top_k": 1}, "top_k", "unsupported_parameter"),
    (
        RERANK,
        {"query": "a", "documents": ["b"], "truncate_prompt_tokens": 0},
        "truncate_prompt_tokens",
        "invalid_value",
    ),
    (RERANK, {"query": "a", "documents": ["a"] * 2049}, "documents", "invalid_value"),
    (RERANK, {"query": "a", "documents": ["b", LONG]}, "documents[1]", "context_length_exceeded"),
    (RERANK, {"query": LONG, "documents": ["b"]}, "query", "context_length_exceeded"),
    (SCORE, {}, "text_1", "missing_required_parameter"),
    (SCORE, {"text_1": "a"}, "text_1", "invalid_value"),
    (SCORE, {"text_1": "a", "documents": ["b"]}, "text_1", "invalid_value"),
    (SCORE, {"text_1": ["a", "b"], "text_2": ["b"]}, "text_2", "invalid_value"),
    (SCORE, {"text_1": ["a", ""], "text_2": ["b", "c"]}, "text_1[1]", "invalid_value"),
    (SCORE, {"text_1": "a", "text_2": []}, "text_2", "invalid_value"),
    (SCORE, {"queries": "a", "documents": ["b", LONG]}, "documents[1]", "context_length_exceeded"),
    (SCORE, {"text_1": "a", "text_2": LONG}, "text_2", "context_length_exceeded"),
]


@pytest.mark.parametrize(("path", "body", "param", "code"), WRONG)
def test_mistakes_are_named(
    open_server: RunningServer, path: str, body: dict[str, Any], param: str, code: str
):
    error = error_of(open_server.post(path, **body))

    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize("cut", [{"truncate_prompt_tokens": -1}, {"max_tokens_per_doc": 400}])
def test_only_who_asks_has_ends_left_out(open_server: RunningServer, cut: dict[str, int]):
    limit = open_server.post("/tokenize", prompt="a").json()["max_model_len"]
    kept = cut.get("max_tokens_per_doc", limit - 1)

    assert ranked(rerank(open_server, "a", ["a" * 10_000], **cut)) == ranked(
        rerank(open_server, "a", ["a" * kept])
    )


def test_it_is_counted(open_server: RunningServer):
    before = open_server.metric("prompt_tokens_total")
    rerank(open_server, "hello", ["you"])

    assert open_server.metric("prompt_tokens_total") == before + 10
    assert open_server.metric('http_requests_total{endpoint="/v1/rerank",status="200"}') >= 1
    wait_for(lambda: open_server.metric("num_requests_in_flight") == 0)


@pytest.mark.parametrize("field", ["temperature", "stream", "max_tokens", "encoding_format"])
def test_what_means_nothing_here_is_reported(open_server: RunningServer, field: str):
    response = open_server.post(RERANK, query="a", documents=["b"], **{field: 1})

    assert response.headers["x-ignored-parameters"] == field


def test_roles_have_the_models_prompts():
    """Where a field's name says what its texts are for, and nowhere else."""
    prompts = {"query": "query: ", "document": "passage: "}
    with running_server(scripted_settings(model={"prompts": prompts})) as server:
        [(_, score)] = ranked(rerank(server, "a", ["b"]))
        by_role = good(server.post(SCORE, queries="a", documents="b"))["data"][0]["score"]
        alike = good(server.post(SCORE, text_1="a", text_2="b"))["data"][0]["score"]

    assert (score, by_role) == (pytest.approx(cosine("query: a", "passage: b"), abs=1e-6), score)
    assert alike == pytest.approx(cosine("a", "b"), abs=1e-6)


def test_a_full_queue_and_a_passed_deadline_refuse(open_server: RunningServer):
    response: httpx.Response = open_server.post(RERANK, query="a", documents=["b"], deadline=1)

    assert error_of(response)["param"] == "deadline"
    error = error_of(open_server.post(RERANK, query="a", documents=["b"], priority="first"))
    assert error["param"] == "priority"


def test_scores_that_differ_by_rounding_alone_keep_the_order_of_the_request():
    """The same text at other places of a batch."""
    assert best_first([0.73245641, 0.73245648, 0.9, 0.73245641, 0.7324]) == [2, 0, 1, 3, 4]
