"""Errors to replies: the table, the envelope, the time to come back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Request, get
from litestar.connection import ASGIConnection
from litestar.testing import create_test_client
from structlog.testing import capture_logs

from gateway.errors import (
    MAX_MESSAGE,
    MAX_WORD,
    ErrorBody,
    UnknownModel,
    UnsupportedMediaType,
    retry_headers,
    to_reply,
)
from gateway.http.error_handler import handle_error
from gateway.observability.request_record import RequestRecord
from runtime.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    GpuMemoryPressure,
    InvalidRequest,
    SetupError,
)


@pytest.mark.parametrize(
    ("error", "status", "type_", "param", "code"),
    [
        (InvalidRequest("m", param="n"), 400, "invalid_request_error", "n", "invalid_value"),
        (
            ContextLengthExceeded("m", param="messages"),
            400,
            "invalid_request_error",
            "messages",
            "context_length_exceeded",
        ),
        (UnknownModel("x", ["y"]), 404, "invalid_request_error", "model", "model_not_found"),
        (
            UnsupportedMediaType("text/plain"),
            415,
            "invalid_request_error",
            None,
            "unsupported_media_type",
        ),
        (EngineOverloaded("m", retry_after=1), 429, "rate_limit_error", None, "engine_overloaded"),
        (EngineUnavailable("m", retry_after=1), 503, "server_error", None, "engine_unavailable"),
        (GpuMemoryPressure("m", retry_after=1), 503, "server_error", None, "gpu_memory_pressure"),
        (DeadlineExceeded("m", retry_after=1), 503, "server_error", None, "deadline_exceeded"),
        (EngineError("m"), 500, "server_error", None, "engine_error"),
    ],
)
def test_table(error, status, type_, param, code):
    reply = to_reply(error, "req_1")

    assert (reply.status, reply.body.type, reply.body.param, reply.body.code) == (
        status,
        type_,
        param,
        code,
    )
    assert reply.body.message == str(error)


def test_nothing_leaks():
    for error in (ZeroDivisionError("secret"), SetupError("secret")):
        reply = to_reply(error, "req_1")
        assert reply.status == 500
        assert "secret" not in reply.body.message
        assert "req_1" in reply.body.message
        assert reply.body.code == "internal_error"


def test_unknown_model_names_what_there_is():
    assert "`a`, `b`" in str(UnknownModel("x", ["a", "b"]))


@given(st.floats(allow_nan=False))
def test_time_to_come_back_is_one_that_clients_obey(seconds):
    """Above 0 and at most 120 s; the two headers agree, the whole seconds rounded up."""
    headers = retry_headers(seconds)

    milliseconds = int(headers["retry-after-ms"])
    assert 1 <= milliseconds <= 120_000
    assert int(headers["retry-after"]) == -(-milliseconds // 1000)


def test_an_unexpected_error_is_a_plain_500_and_logged_once():
    @get("/boom", sync_to_thread=False)
    def boom(request: Request[Any, Any, Any]) -> None:
        raise ZeroDivisionError("secret")

    async def attach(connection: ASGIConnection[Any, Any, Any, Any], _: object) -> None:
        RequestRecord([(b"x-request-id", b"abc")]).attach(connection.scope)

    with (
        capture_logs() as logged,
        create_test_client(
            [boom],
            guards=[attach],
            exception_handlers={Exception: handle_error},
            logging_config=None,
        ) as client,
    ):
        response = client.get("/boom")

    assert response.status_code == 500
    assert "secret" not in response.text
    assert "abc" in response.json()["error"]["message"]
    (entry,) = logged
    assert entry["event"] == "request_failed"
    assert entry["request_id"] == "abc"
    assert isinstance(entry["exc_info"], ZeroDivisionError)


@given(
    st.text(max_size=5) | st.sampled_from(["x", "x ", "`", "狐", "\n", "a.b[0]"]),
    st.integers(0, 60_000),
    st.booleans(),
)
def test_what_an_error_repeats_is_bounded(unit: str, times: int, is_param: bool):
    value = unit * times
    param = value if is_param else "p"
    body = ErrorBody(f"`{value}` is wrong. Leave it out.", "t", param, "c")

    assert len(body.message) <= MAX_MESSAGE + 3
    assert body.message.startswith(f"`{value}"[:MAX_WORD])
    assert body.message.endswith(" is wrong. Leave it out.")
    assert body.param is not None
    assert len(body.param) <= MAX_WORD + 1
    assert body.param == param or param.startswith(body.param[:-1])


@given(st.text(max_size=MAX_WORD))
def test_a_short_text_is_repeated_as_it_is(text: str):
    assert (body := ErrorBody(text, "t", text, "c")).message == text
    assert body.param == text
