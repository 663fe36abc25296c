"""The shape of whole and streamed answers on both endpoints, as suites of other servers have it."""

from typing import Any

import httpx
import pytest

from tests.kit.chat.answers import CHAT, HI, TEXT, good
from tests.kit.serving import MODEL, RunningServer

POSTED = (
    *(CHAT, TEXT, "/v1/responses", "/v1/responses/input_tokens", "/v1/embeddings"),
    *("/generate", "/tokenize", "/detokenize"),
)


@pytest.fixture(scope="module")
def server(ending_server: RunningServer) -> RunningServer:
    return ending_server


class Endpoint:
    """One of the two, and where its answers have their text."""

    def __init__(self, server: RunningServer, path: str) -> None:
        self._server = server
        self._path = path
        self.prompt: dict[str, Any] = {"messages": HI} if path == CHAT else {"prompt": "hi"}

    def whole(self, **fields: Any) -> dict[str, Any]:
        return good(self._server.post(self._path, **self.prompt, **fields))

    def chunks(self, **fields: Any) -> list[dict[str, Any]]:
        return self._server.chunks(self._path, **self.prompt, **fields)

    def text(self, choice: dict[str, Any]) -> str:
        """Of a whole choice, or of one in a chunk."""
        if self._path == TEXT:
            text: str = choice["text"]
            return text
        return str(choice.get("message", choice.get("delta")).get("content", ""))


@pytest.fixture(params=[CHAT, TEXT])
def endpoint(server: RunningServer, request: pytest.FixtureRequest) -> Endpoint:
    return Endpoint(server, request.param)


def test_what_an_answer_is_called(endpoint: Endpoint):
    """Its id and kind; all chunks of a stream have one id and one model."""
    whole, chunks = endpoint.whole(max_tokens=9), endpoint.chunks(max_tokens=9)
    prefix, kinds = "cmpl-", ("text_completion", "text_completion")
    if "messages" in endpoint.prompt:
        prefix, kinds = "chatcmpl-", ("chat.completion", "chat.completion.chunk")

    assert whole["id"].startswith(prefix)
    assert (whole["object"], {chunk["object"] for chunk in chunks}) == (kinds[0], {kinds[1]})
    [(chunk_id, model, created)] = {(c["id"], c["model"], c["created"]) for c in chunks}
    assert chunk_id.startswith(prefix)
    assert chunk_id != whole["id"]
    assert model == whole["model"] == MODEL
    assert abs(created - whole["created"]) < 60


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("max_tokens", [1, 9, 200])
def test_usage_adds_up(endpoint: Endpoint, n: int, max_tokens: int):
    """A cold prompt has nothing in a cache; a choice that was cut has exactly its limit."""
    whole = endpoint.whole(n=n, max_tokens=max_tokens)
    usage, choices = whole["usage"], whole["choices"]
    streamed = endpoint.chunks(n=n, max_tokens=max_tokens, stream_options={"include_usage": True})

    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    reasons = {choice["finish_reason"] for choice in choices}
    if max_tokens < 200:
        assert reasons == {"length"}
        assert usage["completion_tokens"] == n * max_tokens
    else:
        assert reasons == {"stop"}
        assert usage["completion_tokens"] < n * max_tokens
    *others, last = streamed
    assert (last["choices"], last["usage"]) == ([], usage)
    assert all(chunk["choices"] and chunk["usage"] is None for chunk in others)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_each_choice_begins_and_ends_once(endpoint: Endpoint, n: int):
    whole = endpoint.whole(n=n, max_tokens=60)["choices"]
    chunks = endpoint.chunks(n=n, max_tokens=60)

    assert [choice["index"] for choice in whole] == list(range(n))
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    for choice in whole:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert "".join(map(endpoint.text, mine)) == endpoint.text(choice) != ""
        reasons = [each["finish_reason"] for each in mine]
        assert reasons == [None] * (len(mine) - 1) + [choice["finish_reason"]]
        assert endpoint.text(mine[-1]) == ""
        if "delta" in mine[0]:
            assert mine[0]["delta"] == {"role": "assistant", "content": ""}
            assert not any("role" in each["delta"] for each in mine[1:])
            assert choice["message"]["role"] == "assistant"


@pytest.mark.parametrize("stop", ["quick", ["never", "k br"]])
def test_a_stop_string_and_what_follows_it_are_not_told(endpoint: Endpoint, stop: Any):
    free = endpoint.text(endpoint.whole(max_tokens=100)["choices"][0])
    word = stop if isinstance(stop, str) else stop[1]
    expected = free[: free.index(word)]
    [choice] = endpoint.whole(max_tokens=100, stop=stop)["choices"]
    chunks = [c for chunk in endpoint.chunks(max_tokens=100, stop=stop) for c in chunk["choices"]]

    assert endpoint.text(choice) == "".join(map(endpoint.text, chunks)) == expected
    for ended in (choice, chunks[-1]):
        assert (ended["finish_reason"], ended["stop_reason"]) == ("stop", word)


def test_tokens_of_a_chat_are_its_text(server: RunningServer):
    """Those that are whole characters by their names, all of them by their bytes."""
    choice = Endpoint(server, CHAT).whole(logprobs=True, max_tokens=30)["choices"][0]
    told = choice["logprobs"]["content"]
    raw = b"".join(bytes(entry["bytes"]) for entry in told)

    assert raw.decode(errors="replace") == choice["message"]["content"]
    named = [entry for entry in told if entry["bytes"][0] < 128]
    assert len(named) > 10
    assert all(entry["token"].encode() == bytes(entry["bytes"]) for entry in named)


@pytest.mark.parametrize("path", POSTED)
def test_bodies_that_are_no_objects(server: RunningServer, path: str):
    def send(body: bytes, content_type: str = "application/json") -> httpx.Response:
        return server.http.post(path, content=body, headers={"content-type": content_type})

    for body in (b'"text"', b"[]", b'[{"prompt": "hi"}]', b"7", b"null", b"true", b"{", b""):
        response = send(body)
        assert response.status_code == 400, (body, response.text)
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert send(b"{}", "text/plain").status_code == 415
    assert server.chat(max_tokens=1).status_code == 200
