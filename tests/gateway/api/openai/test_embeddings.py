"""POST /v1/embeddings over real HTTP, on the scripted engine."""

import base64
import math
import struct
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.openai.protocol.embedding import EmbeddingRequest
from runtime.engines.scripted.embedder import WIDTH, scripted_vector
from tests.kit.chat import answers
from tests.kit.chat.answers import EMBEDDINGS, error_of
from tests.kit.openai.schemas import REQUEST_FIELDS, check_embeddings
from tests.kit.serving import (
    MODEL,
    RunningServer,
    raw_request,
    running_server,
    scripted_settings,
    wait_for,
)

BOS = 256


def good(response: httpx.Response) -> dict[str, Any]:
    answer = answers.good(response)
    check_embeddings(_as_floats(answer))
    return answer


def _as_floats(answer: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's document says that embeddings are numbers, and its client asks for base64."""
    texts = [entry["embedding"] for entry in answer["data"]]
    floats = [numbers(base64.b64decode(t)) if isinstance(t, str) else t for t in texts]
    data = [{**e, "embedding": f} for e, f in zip(answer["data"], floats, strict=True)]
    return {**answer, "data": data}


def vectors_of(answer: dict[str, Any]) -> list[list[float]]:
    assert [entry["index"] for entry in answer["data"]] == list(range(len(answer["data"])))
    return [entry["embedding"] for entry in answer["data"]]


def numbers(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def expected(text: str) -> list[float]:
    return numbers(scripted_vector([BOS, *text.encode()]))


def test_one_text(open_server: RunningServer):
    answer = good(open_server.post(EMBEDDINGS, input="hello"))

    assert answer == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": expected("hello")}],
        "model": MODEL,
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    }
    assert math.hypot(*answer["data"][0]["embedding"]) == pytest.approx(1, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.sampled_from(["a", "b", "naïve", "狐狸", "c" * 90]), min_size=1))
def test_the_order_is_kept(open_server: RunningServer, texts: list[str]):
    answer = good(open_server.post(EMBEDDINGS, input=texts))

    assert vectors_of(answer) == [expected(text) for text in texts]
    num_tokens = sum(1 + len(text.encode()) for text in texts)
    assert answer["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


def test_token_ids_are_taken_as_they_are(open_server: RunningServer):
    one = good(open_server.post(EMBEDDINGS, input=[1, 2, 3]))
    two = good(open_server.post(EMBEDDINGS, input=[[1, 2, 3], [4]]))

    assert vectors_of(one) == [numbers(scripted_vector([1, 2, 3]))]
    assert vectors_of(two) == [*vectors_of(one), numbers(scripted_vector([4]))]
    assert two["usage"]["total_tokens"] == 4


def test_base64_is_the_same(open_server: RunningServer):
    texts = ["hello", "world"]
    written = vectors_of(good(open_server.post(EMBEDDINGS, input=texts, encoding_format="base64")))

    assert [numbers(base64.b64decode(each)) for each in written] == vectors_of(
        good(open_server.post(EMBEDDINGS, input=texts, encoding_format="float"))
    )


def test_as_many_texts_as_openai_takes(open_server: RunningServer):
    """More than sequences may wait: a request is one, however many texts it has."""
    texts = [str(number) for number in range(2048)]
    answer = good(open_server.post(EMBEDDINGS, input=texts))

    assert vectors_of(answer) == [expected(text) for text in texts]
    error = error_of(open_server.post(EMBEDDINGS, input=[*texts, "one more"]))
    assert error["param"] == "input"


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ("", "input", "invalid_value"),
        ([], "input", "invalid_value"),
        (["a", ""], "input[1]", "invalid_value"),
        ([[1], []], "input[1]", "invalid_value"),
        (["a", [1]], "input", "invalid_type"),
        (["a", 1], "input", "invalid_type"),
        ([1, 10_000], "input", "invalid_value"),
        ([[1], [-1]], "input[1]", "invalid_value"),
        ("a" * 500, "input", "context_length_exceeded"),
        (["a", "a" * 500], "input[1]", "context_length_exceeded"),
        ("a" * 30_000, "input", "context_length_exceeded"),
        (["a", "a" * 30_000, ""], "input[2]", "invalid_value"),
        (["a", "b", "a" * 30_000], "input[2]", "context_length_exceeded"),
        (["a" * 30_000], "input[0]", "context_length_exceeded"),
        ([[1], [1] * 30_000], "input[1]", "context_length_exceeded"),
        (["a" * 498] * 602, "input", "max_tokens_per_request"),
    ],
)
def test_wrong_input(open_server: RunningServer, given: Any, param: str, code: str):
    error = error_of(open_server.post(EMBEDDINGS, input=given))

    assert (error["param"], error["code"]) == (param, code)
    if code == "context_length_exceeded":
        assert f"`{param}` has" in error["message"]
        assert "messages" not in error["message"]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("dimensions", 8, "unsupported_parameter"),
        ("dimensions", 0, "invalid_value"),
        ("dimensions", WIDTH + 1, "invalid_value"),
        ("encoding_format", "hex", "invalid_value"),
        ("truncate_prompt_tokens", 4, "unsupported_parameter"),
        ("normalize", False, "unsupported_parameter"),
    ],
)
def test_what_is_refused(open_server: RunningServer, field: str, value: Any, code: str):
    error = error_of(open_server.post(EMBEDDINGS, input="hi", **{field: value}))

    assert (error["param"], error["code"]) == (field, code)


def test_the_whole_width_may_be_asked_for(open_server: RunningServer):
    answer = good(open_server.post(EMBEDDINGS, input="hi", dimensions=WIDTH))

    assert vectors_of(answer) == [expected("hi")]


@pytest.mark.parametrize("fields", [{}, {"model": None}])
def test_without_a_name_the_only_model_answers(open_server: RunningServer, fields: dict[str, None]):
    answer = good(open_server.http.post(EMBEDDINGS, json={"input": "hi", **fields}))

    assert answer["model"] == MODEL
    assert len(answer["data"]) == 1


def test_unknown_model(open_server: RunningServer):
    response = open_server.http.post(EMBEDDINGS, json={"model": "nobody", "input": "hi"})

    assert error_of(response, 404)["code"] == "model_not_found"


@pytest.mark.parametrize("encoding_format", [openai.omit, "float"])
def test_openai_reads_it(open_server: RunningServer, encoding_format: Any):
    """The official client asks for base64 by itself, and decodes it behind its strict check, which
    does not know of that."""
    with openai.OpenAI(
        base_url=f"{open_server.url}/v1",
        api_key="none",
        max_retries=0,
        _strict_response_validation=encoding_format == "float",
    ) as client:
        answer = client.embeddings.create(
            model=MODEL, input=["a", "b"], encoding_format=encoding_format
        )

    assert [each.embedding for each in answer.data] == [expected("a"), expected("b")]
    assert answer.usage.total_tokens == 4


def test_it_is_counted(open_server: RunningServer):
    def counted() -> float:
        """When every request has ended: the answer is there before the last line of its record."""
        wait_for(lambda: open_server.metric("num_requests_in_flight") == 0)
        return open_server.metric("prompt_tokens_total")

    before = counted()
    good(open_server.post(EMBEDDINGS, input="hello"))

    assert counted() == before + 6
    assert open_server.metric('http_requests_total{endpoint="/v1/embeddings",status="200"}') >= 1


MANY = [f"text {number}" for number in range(1500)]
"""More than the scripted embedder takes in twenty steps."""


@pytest.fixture
def slow() -> Iterator[RunningServer]:
    """Embeddings take their turns between the steps of a chat, 64 texts at a time."""
    with running_server(scripted_settings(step_ms=10)) as running:
        yield running


@contextmanager
def a_chat_runs(server: RunningServer) -> Iterator[Future[httpx.Response]]:
    with ThreadPoolExecutor(1) as pool:
        chat = pool.submit(server.chat, max_tokens=150)
        wait_for(lambda: server.health()["num_requests_in_flight"] == 1)
        yield chat


@pytest.mark.slow
def test_a_chat_is_the_same_beside_embeddings_and_goes_on(slow: RunningServer):
    alone = slow.chat(max_tokens=150).json()
    with a_chat_runs(slow) as chat:
        answer = good(slow.post(EMBEDDINGS, input=MANY))
        assert not chat.done(), "the embeddings had to wait for its end"
        beside = chat.result().json()

    assert vectors_of(answer) == [expected(text) for text in MANY]
    assert beside["choices"] == alone["choices"]


@pytest.mark.slow
def test_an_engine_that_dies_in_between_loses_no_vector(slow: RunningServer):
    with a_chat_runs(slow) as chat, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(slow.post, EMBEDDINGS, input=MANY)
        wait_for(lambda: slow.health()["num_requests_in_flight"] == 2)
        wait_for(lambda: slow.metric("num_requests_running") == 2)
        engines = [p for p in psutil.Process().children() if "runtime.worker" in p.cmdline()]
        max(engines, key=lambda process: process.create_time()).kill()  # the newest is `slow`'s

        assert vectors_of(good(answer.result())) == [expected(text) for text in MANY]
        assert chat.result().status_code == 200
        assert slow.health()["progress"]["num_deaths"] == 1


@pytest.mark.slow
def test_who_leaves_is_forgotten(slow: RunningServer):
    with a_chat_runs(slow), slow.connect() as client:
        client.sendall(raw_request(EMBEDDINGS, {"input": MANY}))
        wait_for(lambda: slow.metric("num_requests_running") == 2)
        client.close()
        wait_for(lambda: slow.metric("num_requests_running") == 1)
        assert slow.health()["num_requests_in_flight"] == 1
    wait_for(lambda: slow.metric("requests_aborted_total") == 1)


@pytest.mark.slow
def test_a_full_queue_refuses():
    settings = scripted_settings(engine={"max_num_seqs": 1, "max_num_waiting": 0}, step_ms=20)
    with running_server(settings) as server, a_chat_runs(server):
        refused = server.post(EMBEDDINGS, input="hi")
        error = error_of(refused, 429)
        assert (error["code"], error["type"]) == ("engine_overloaded", "rate_limit_error")
        assert int(refused.headers["retry-after"]) >= 1


def test_vectors_of_a_model_that_was_trained_for_it_can_be_shortened():
    with running_server(scripted_settings(model={"is_matryoshka": True})) as server:
        [short] = vectors_of(good(server.post(EMBEDDINGS, input="hi", dimensions=8)))

    whole = expected("hi")[:8]
    norm = math.hypot(*whole)
    assert short == pytest.approx([number / norm for number in whole], abs=1e-6)


def test_every_field_of_openai_is_known():
    known = set(EmbeddingRequest.__struct_fields__)
    assert set(REQUEST_FIELDS["CreateEmbeddingRequest"]) <= known
