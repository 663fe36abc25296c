"""Requests that are refused over real HTTP, and what identifies them."""

import json
import re

import httpx
import openai
import pytest

from tests.gateway.api.harness import check_error
from tests.kit.chat.answers import CHAT, HI, TEXT
from tests.kit.serving import MODEL


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("change", "status", "param", "code"),
    [
        ({"model": "other"}, 404, "model", "model_not_found"),
        ({"messages": []}, 400, "messages", "invalid_value"),
        (
            {"messages": [{"role": "boss", "content": "x"}]},
            400,
            "messages[0].role",
            "invalid_value",
        ),
        ({"messages": [{"role": "", "content": "x"}]}, 400, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "messages[0].content[0]",
            "unsupported_value",
        ),
        ({"temperature": 3}, 400, "temperature", "invalid_value"),
        ({"temperature": "hot"}, 400, "temperature", "invalid_type"),
        ({"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": "x" * 3000}]},
            400,
            "messages",
            "context_length_exceeded",
        ),
        ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 1}, 400, "top_logprobs", "invalid_value"),
        ({"n": 0}, 400, "n", "invalid_value"),
        ({"stop": ["a"] * 65}, 400, "stop", "invalid_value"),
    ],
)
def test_bad_requests(server, stream, change, status, param, code):
    """Each is a plain HTTP error, streaming or not, and the next good request works."""
    body = {"messages": HI, "stream": stream, **change}

    check_error(server.post(CHAT, **body), status, param, code)
    assert server.chat(max_tokens=1).status_code == 200


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": [263]}, "prompt", "invalid_value"),
        ({"prompt": [-1]}, "prompt", "invalid_value"),
        ({"prompt": ["a", 1]}, "prompt", "invalid_type"),
        ({"prompt": {"a": 1}}, "prompt", "invalid_type"),
        ({}, "prompt", "missing_required_parameter"),
        ({"prompt": "a", "logprobs": 6}, "logprobs", "invalid_value"),
        ({"prompt": "a", "max_tokens": -2}, "max_tokens", "invalid_value"),
        ({"prompt": "a", "stream_options": {}}, "stream_options", "invalid_value"),
        ({"prompt": ["a"] * 1000, "n": 2}, "prompt", "invalid_value"),
    ],
)
def test_bad_completions(server, change, param, code):
    check_error(server.post(TEXT, **change), 400, param, code)
    assert server.post(TEXT, prompt="hi").status_code == 200


def test_bodies_that_are_not_requests(server):
    def send(
        body: bytes, content_type: str = "application/json", encoding: str = ""
    ) -> httpx.Response:
        headers = {"content-type": content_type}
        if encoding:
            headers["content-encoding"] = encoding
        return server.http.post(CHAT, content=body, headers=headers)

    for body in (b"", b"{", b'{"model": ', b"\xff"):
        check_error(send(body), 400, None, "invalid_json")
    for body in (b"[]", b"3", b'"x"', b"null"):
        check_error(send(body), 400, None, "invalid_type")
    good = json.dumps({"model": MODEL, "messages": HI, "max_tokens": 1}).encode()
    check_error(send(good, "text/plain"), 415, None, "unsupported_media_type")
    check_error(
        send(good, "application/x-www-form-urlencoded"), 415, None, "unsupported_media_type"
    )
    check_error(send(good, encoding="gzip"), 415, None, "unsupported_content_encoding")
    check_error(send(good, encoding="deflate, br"), 415, None, "unsupported_content_encoding")
    assert send(good, encoding="identity").status_code == 200
    check_error(send(b'"' + b"x" * 100_000 + b'"'), 413, None, "request_too_large")
    assert send(good, "application/json; charset=utf-8").status_code == 200
    assert send(good, "Application/JSON").status_code == 200


def test_body_too_large_without_a_length(server):
    """Sent in chunks, so that the size shows only while reading."""
    response = server.http.post(
        CHAT,
        content=(b" " * 30_000 for _ in range(5)),
        headers={"content-type": "application/json"},
    )

    check_error(response, 413, None, "request_too_large")


def test_unknown_paths_and_wrong_methods(server):
    for path in ("/", "/v1", "/v1/classify", "/schema", "/v1/completions/x"):
        check_error(server.http.get(path), 404, None, "unknown_url")
    for method, path, allow in (
        ("PUT", CHAT, "POST"),
        ("PUT", TEXT, "POST"),
        ("DELETE", f"/v1/models/{MODEL}", "GET"),
        ("POST", "/health", "GET"),
    ):
        response = server.http.request(method, path)
        check_error(response, 405, None, "method_not_allowed")
        assert allow in response.headers["allow"]


def test_unknown_fields_do_no_harm(server):
    assert server.chat(max_tokens=1, other=5, extra={"a": 1}).status_code == 200


def test_request_ids(server):
    def reply_to(request_id: str) -> str:
        response = server.http.get("/health/live", headers={"x-request-id": request_id})
        return response.headers["x-request-id"]

    assert reply_to("my-id_1.2") == "my-id_1.2"
    for bad in ("", "a b", "a" * 129, "a;b"):
        assert re.fullmatch(r"req_[0-9a-f]{32}", reply_to(bad))


def test_exceptions_of_the_official_client(server, client):
    with pytest.raises(openai.NotFoundError) as not_found:
        client.chat.completions.create(model="other", messages=HI)
    assert not_found.value.code == "model_not_found"
    assert not_found.value.param == "model"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=HI, top_p=2)
    assert bad.value.param == "top_p"
    assert bad.value.type == "invalid_request_error"
    assert bad.value.request_id
