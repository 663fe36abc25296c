"""Token ids and log-probabilities of prompts, in vLLM's fields."""

from codecs import getincrementaldecoder
from typing import Any

import pytest

from tests.kit.chat.answers import CHAT, HI, TEXT, error_of, good
from tests.kit.serving import RunningServer

ASKED = {"max_tokens": 9, "seed": 1}


@pytest.fixture(scope="module")
def server(ending_server: RunningServer) -> RunningServer:
    return ending_server


def whole_text(server: RunningServer, **body: Any) -> dict[str, Any]:
    return good(server.post(TEXT, **body))


def test_token_ids_of_a_chat(server: RunningServer):
    plain = good(server.post(CHAT, messages=HI, n=2, **ASKED))
    told = good(server.post(CHAT, messages=HI, n=2, return_token_ids=True, **ASKED))
    prompt = good(server.post("/tokenize", messages=HI))["tokens"]

    assert told["prompt_token_ids"] == prompt
    for choice, before in zip(told["choices"], plain["choices"], strict=True):
        text = getincrementaldecoder("utf-8")("replace").decode(bytes(choice["token_ids"]))
        assert text == choice["message"]["content"]
        assert choice["message"] == before["message"]
        assert "token_ids" not in before
    assert "prompt_token_ids" not in plain


@pytest.mark.parametrize("logprobs", [None, True])
def test_a_streamed_chat_has_the_same_token_ids(server: RunningServer, logprobs: bool | None):
    body: dict[str, Any] = {"messages": HI, "return_token_ids": True, "n": 2, **ASKED}
    whole = good(server.post(CHAT, logprobs=logprobs, **body))
    chunks = server.chunks(CHAT, logprobs=logprobs, **body)

    with_prompt = [chunk for chunk in chunks if "prompt_token_ids" in chunk]
    assert {chunk["choices"][0]["index"] for chunk in with_prompt} == {0, 1}
    assert all(chunk["prompt_token_ids"] == whole["prompt_token_ids"] for chunk in with_prompt)
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert [token for c in mine for token in c.get("token_ids", [])] == choice["token_ids"]
        text = "".join(c["delta"].get("content") or "" for c in mine)
        assert text == choice["message"]["content"]


@pytest.mark.parametrize(
    "fields",
    [{}, {"echo": True}, {"echo": True, "logprobs": 1}, {"n": 2}, {"logprobs": 0, "stop": "fox"}],
)
def test_token_ids_of_completions(server: RunningServer, fields: dict[str, Any]):
    """Of several prompts; an echo is no part of what was generated."""
    body: dict[str, Any] = {"prompt": ["hü", "ab"], "return_token_ids": True, **ASKED, **fields}
    whole = whole_text(server, **body)
    chunks = server.chunks(TEXT, **body)

    prompts = [good(server.post("/tokenize", prompt=text))["tokens"] for text in ("hü", "ab")]
    for choice in whole["choices"]:
        prompt = prompts[choice["index"] // fields.get("n", 1)]
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert choice["prompt_token_ids"] == prompt
        assert 0 < len(choice["token_ids"]) <= 9
        assert [c["prompt_token_ids"] for c in mine if "prompt_token_ids" in c] == [prompt]
        assert [token for c in mine for token in c.get("token_ids", [])] == choice["token_ids"]
        assert "".join(c["text"] for c in mine) == choice["text"]


def test_best_of_keeps_its_own_token_ids(server: RunningServer):
    body: dict[str, Any] = {"prompt": ["a", "b"], "return_token_ids": True, **ASKED}
    kept = whole_text(server, **body, n=2, best_of=4)

    assert [choice["prompt_token_ids"][-1] for choice in kept["choices"]] == [97, 97, 98, 98]
    for choice in kept["choices"]:
        assert bytes(choice["token_ids"]).decode("utf-8", "replace") == choice["text"]


def test_an_echo_alone_has_its_prompts_token_ids(server: RunningServer):
    body: dict[str, Any] = {"prompt": "hi", "max_tokens": 0, "echo": True, "return_token_ids": True}
    [choice] = whole_text(server, **body)["choices"]
    streamed = [c for chunk in server.chunks(TEXT, **body) for c in chunk["choices"]]

    assert (choice["token_ids"], choice["prompt_token_ids"][-2:]) == ([], list(b"hi"))
    assert any("prompt_token_ids" in c for c in streamed)


@pytest.mark.parametrize("num_top", [0, 1, 4])
def test_a_prompt_is_scored(server: RunningServer, num_top: int):
    """The same numbers as in the echo of a completion, which has the prompt's own tokens."""
    echo = whole_text(server, prompt="hü", max_tokens=1, echo=True, logprobs=num_top, seed=1)[
        "choices"
    ][0]["logprobs"]
    [choice] = whole_text(server, prompt="hü", max_tokens=1, prompt_logprobs=num_top, seed=1)[
        "choices"
    ]
    prompt = [256, *"hü".encode()]

    first, *others = choice["prompt_logprobs"]
    assert first is None
    assert not choice["text"].startswith("hü")
    assert choice["logprobs"] is None
    for token_id, place, own in zip(prompt[1:], others, echo["token_logprobs"][1:], strict=False):
        assert place[str(token_id)]["logprob"] == own
        assert max(num_top, 1) <= len(place) <= num_top + 1
        assert all(set(entry) == {"logprob", "rank", "decoded_token"} for entry in place.values())


def test_an_echo_and_a_scored_prompt_have_their_own_numbers(server: RunningServer):
    [choice] = whole_text(
        server, prompt="abc", max_tokens=2, echo=True, logprobs=1, prompt_logprobs=3, seed=1
    )["choices"]

    assert all(len(top) <= 2 for top in choice["logprobs"]["top_logprobs"][1:])
    assert all(len(place) >= 3 for place in choice["prompt_logprobs"][1:])


def test_a_chats_prompt_is_scored(server: RunningServer):
    answer = good(server.post(CHAT, messages=HI, prompt_logprobs=2, return_token_ids=True, **ASKED))

    places = answer["prompt_logprobs"]
    assert len(places) == answer["usage"]["prompt_tokens"]
    for token_id, place in zip(answer["prompt_token_ids"][1:], places[1:], strict=True):
        assert str(token_id) in place


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_scored_prompt_comes_with_whole_answers_alone(server: RunningServer, path: str):
    prompt = {"messages": HI} if path == CHAT else {"prompt": "a"}
    error = error_of(server.post(path, prompt_logprobs=1, stream=True, **prompt))

    assert error["param"] == "prompt_logprobs"
    assert "`stream`" in error["message"]


@pytest.mark.parametrize("value", [-1, 21, 1.5, "all"])
def test_numbers_that_are_refused(server: RunningServer, value: Any):
    error = error_of(server.post(TEXT, prompt="a", prompt_logprobs=value))

    assert error["param"] == "prompt_logprobs"


def test_tokens_are_shown_by_their_ids(server: RunningServer):
    shown: dict[str, Any] = {"return_tokens_as_token_ids": True, **ASKED}
    chat = good(server.post(CHAT, messages=HI, logprobs=True, top_logprobs=2, **shown))
    text = whole_text(server, prompt="hi", logprobs=2, **shown)["choices"][0]["logprobs"]

    for entry in chat["choices"][0]["logprobs"]["content"]:
        assert entry["token"] == f"token_id:{entry['bytes'][0]}"
        assert all(top["token"].startswith("token_id:") for top in entry["top_logprobs"])
    assert all(token.startswith("token_id:") for token in text["tokens"])
    assert all(name.startswith("token_id:") for top in text["top_logprobs"] for name in top)
