"""Bodies in UTF-8, with a byte order mark or without, and in anything else."""

import codecs
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.decoding import utf8
from runtime.errors import InvalidRequest
from tests.kit.chat.answers import HI
from tests.kit.serving import MODEL, RunningServer, running_server, scripted_settings

SHORT = {"model": MODEL, "max_tokens": 3, "user": "Zoë"}
BODIES = {
    "/v1/chat/completions": {**SHORT, "messages": HI},
    "/v1/completions": {**SHORT, "prompt": "ö"},
    "/v1/responses": {"model": MODEL, "input": "ö", "max_output_tokens": 16},
    "/v1/embeddings": {"model": MODEL, "input": "ö"},
    "/tokenize": {"prompt": "ö"},
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(scripted_settings()) as running:
        yield running


def post(server: RunningServer, path: str, body: bytes, charset: str = "") -> tuple[int, str]:
    content_type = "application/json" + (f"; charset={charset}" if charset else "")
    answer = server.http.post(path, content=body, headers={"Content-Type": content_type})
    return answer.status_code, (answer.json().get("error") or {}).get("message", "")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("space", ["", " \r\n\t"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_byte_order_mark_and_blanks_are_taken(
    server: RunningServer, path: str, space: str, mark: bytes
):
    text = space + json.dumps(BODIES[path], ensure_ascii=False) + space
    assert post(server, path, mark + text.encode()) == (200, "")


def test_a_byte_order_mark_before_an_optional_body(server: RunningServer):
    wrong = server.http.post("/admin/drain", content=codecs.BOM_UTF8 + b'{"exits": 1}')
    assert wrong.status_code in (400, 401, 403)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "latin-1"]
)
def test_another_encoding_is_refused_by_name(server: RunningServer, path: str, encoding: str):
    body = json.dumps(BODIES[path], ensure_ascii=False).encode(encoding)
    for charset in ("", encoding):
        status, message = post(server, path, body, charset)
        assert status == 400
        assert "UTF-8" in message


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8", "us-ascii", "UTF8 ; x=y"])
def test_the_charsets_that_are_utf8(server: RunningServer, charset: str):
    body = json.dumps(BODIES["/tokenize"], ensure_ascii=False).encode()
    assert post(server, "/tokenize", body, charset) == (200, "")


def test_another_charset_is_no_matter_for_ascii(server: RunningServer):
    body = json.dumps(BODIES["/tokenize"]).encode()
    assert post(server, "/tokenize", body, "ISO-8859-1") == (200, "")
    body = json.dumps(BODIES["/tokenize"], ensure_ascii=False).encode()
    assert post(server, "/tokenize", body, "ISO-8859-1")[0] == 400


@pytest.mark.parametrize("body", [codecs.BOM_UTF8, codecs.BOM_UTF8 * 2 + b"{}"])
def test_a_mark_alone_is_no_json(server: RunningServer, body: bytes):
    assert post(server, "/tokenize", body)[0] == 400


@given(st.text(min_size=1), st.sampled_from(["utf-16", "utf-32", "utf-16-le", "utf-32-be"]))
def test_no_text_in_utf16_or_utf32_passes(text: str, encoding: str):
    body = json.dumps([text], ensure_ascii=False)
    assert utf8(body.encode("utf-8", "surrogatepass"), "") == body.encode("utf-8", "surrogatepass")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        utf8(body.encode(encoding, "surrogatepass"), "")
