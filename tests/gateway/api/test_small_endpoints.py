"""Tokens, texts, versions and methods: the endpoints beside OpenAI's, over real HTTP."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.version import __version__
from tests.kit.chat.answers import CHAT, HI, error_of, good
from tests.kit.serving import MODEL, RunningServer, parse_events, running_server, scripted_settings

GETS = ("/v1/models", f"/v1/models/{MODEL}", "/health", "/health/live", "/health/ready", "/metrics")
POSTS = ("/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/generate")


def test_tokens_of_a_text(open_server: RunningServer):
    whole = good(open_server.post("/tokenize", prompt="hü"))
    bare = good(open_server.post("/tokenize", prompt="hü", add_special_tokens=False))
    shown = good(open_server.post("/tokenize", prompt="hü", return_token_strs=True))

    assert whole == {
        "count": 4,
        "max_model_len": 500,
        "tokens": [256, *"hü".encode()],
        "token_strs": None,
    }
    assert bare["tokens"] == list("hü".encode())
    assert shown["token_strs"] == ["<|bos|>", "h", "bytes:\\xc3", "bytes:\\xbc"]


@settings(max_examples=30, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_text_survives_its_tokens(open_server: RunningServer, text: str):
    tokens = good(open_server.post("/tokenize", prompt=text, add_special_tokens=False))["tokens"]

    assert good(open_server.post("/detokenize", tokens=tokens)) == {"prompt": text}


def test_control_tokens_have_their_names(open_server: RunningServer):
    assert good(open_server.post("/detokenize", tokens=[256, 104, 259])) == {
        "prompt": "<|bos|>h<|im_end|>"
    }


def test_many_tokens(open_server: RunningServer):
    tokens = [104] * 30_000

    assert good(open_server.post("/detokenize", tokens=tokens)) == {"prompt": "h" * 30_000}
    assert good(open_server.post("/tokenize", prompt="h" * 30_000))["count"] == 30_001


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"add_generation_prompt": False},
        {"chat_template_kwargs": {"mood": "x"}},
        {
            "messages": [*HI, {"role": "assistant", "content": "so"}],
            "continue_final_message": True,
        },
    ],
)
def test_a_conversation_has_the_tokens_that_its_chat_has(
    open_server: RunningServer, fields: dict[str, Any]
):
    body = {"messages": HI, **fields}
    counted = good(open_server.post("/tokenize", **body))
    usage = good(open_server.post(CHAT, max_tokens=1, **body))["usage"]

    assert counted["count"] == len(counted["tokens"]) == usage["prompt_tokens"]


def test_the_model_may_be_left_out(open_server: RunningServer):
    for path, body in (
        ("/tokenize", {"prompt": "a"}),
        ("/detokenize", {"tokens": [97]}),
        ("/generate", {"prompt": "a"}),
    ):
        assert good(open_server.http.post(path, json=body))
        assert good(open_server.post(path, **body))
        error = error_of(open_server.post(path, **{**body, "model": "other"}), 404)
        assert error["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": HI}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": HI, "add_special_tokens": True}, "add_special_tokens"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ("/tokenize", {"prompt": "a", "tools": []}, "tools"),
        ("/tokenize", {"prompt": 3}, "prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [263]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
        ("/generate", {}, "prompt"),
        ("/generate", {"prompt": "a", "max_new_tokens": 0}, "max_new_tokens"),
        ("/generate", {"prompt": "a", "max_new_tokens": -2}, "max_new_tokens"),
        ("/generate", {"prompt": "a" * 600}, "prompt"),
        ("/generate", {"prompt": "a", "temperature": 3}, "temperature"),
        ("/generate", {"prompt": "a", "logprobs": 5}, "logprobs"),
        ("/generate", {"prompt": "a", "maxNewTokens": 5}, "maxNewTokens"),
        ("/generate", {"prompt": "a", "n_predict": -2}, "n_predict"),
    ],
)
def test_mistakes_are_named(
    open_server: RunningServer, path: str, body: dict[str, Any], param: str
):
    error = error_of(open_server.post(path, **body))

    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert param.partition("[")[0] in error["message"]


def test_generate(open_server: RunningServer):
    """What a completion says, in fewer words."""
    body = {"prompt": "hi", "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 1}
    answer = good(open_server.post("/generate", **body, max_new_tokens=40))
    completion = good(open_server.post("/v1/completions", **body, max_tokens=40))

    assert answer["text"] == completion["choices"][0]["text"]
    assert answer["usage"] == completion["usage"]
    assert (answer["finish_reason"], answer["model"]) == ("length", MODEL)
    assert good(open_server.post("/generate", prompt="hi"))["usage"]["completion_tokens"] == 128
    stopped = good(open_server.post("/generate", prompt="hi", max_new_tokens=200, stop="fox"))
    assert stopped["finish_reason"] == "stop"
    assert "fox" not in stopped["text"]


def test_generate_streams_what_it_says_whole(open_server: RunningServer):
    for fields in ({"max_new_tokens": 1}, {"max_new_tokens": 60}, {"stop": "fox"}):
        whole = good(open_server.post("/generate", prompt="hi", **fields))
        response = open_server.post("/generate", prompt="hi", stream=True, **fields)
        *events, last = parse_events(response.text)

        assert response.headers["content-type"].startswith("text/event-stream")
        assert "".join(event["text"] for event in events) == whole["text"]
        assert {event["finish_reason"] for event in events} <= {None}
        assert last == {
            "text": "",
            "finish_reason": whole["finish_reason"],
            "usage": whole["usage"],
        }


def test_version(open_server: RunningServer):
    assert good(open_server.http.get("/version")) == {"version": __version__}


def test_head_is_get_without_a_body(open_server: RunningServer):
    for path in (*GETS, "/version"):
        head, get = open_server.http.head(path), open_server.http.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.headers["x-request-id"].startswith("req_")
    assert open_server.http.head("/nowhere").status_code == 404
    assert open_server.http.head("/tokenize").status_code == 405


def test_options_say_what_a_path_takes(open_server: RunningServer):
    for paths, methods in ((GETS, {"GET", "HEAD", "OPTIONS"}), (POSTS, {"POST", "OPTIONS"})):
        for path in paths:
            response = open_server.http.options(path)
            assert (response.status_code, response.content) == (204, b"")
            assert set(response.headers["allow"].split(", ")) == methods
    assert error_of(open_server.http.options("/nowhere"), 404)["code"] == "unknown_url"


def test_wrong_methods(open_server: RunningServer):
    for paths, method, allowed in ((GETS, "POST", "HEAD"), (POSTS, "GET", "POST")):
        for path in paths:
            response = open_server.http.request(method, path)
            assert error_of(response, 405)["code"] == "method_not_allowed"
            assert allowed in response.headers["allow"].split(", ")


def test_before_the_model_is_loaded():
    """What needs the tokenizer says when to come back."""
    with running_server(scripted_settings(load_ms=60_000), wait_until_ready=False) as server:
        assert good(server.http.get("/version"))
        for path, body in (
            ("/tokenize", {"prompt": "a"}),
            ("/detokenize", {"tokens": [97]}),
            ("/generate", {"prompt": "a"}),
        ):
            response = server.post(path, **body)
            assert error_of(response, 503)["code"] == "engine_unavailable"
            assert int(response.headers["retry-after"]) >= 1
        [card] = good(server.http.get("/v1/models"))["data"]
        assert "max_model_len" not in card


def test_an_alias_is_answered_in_the_models_own_name():
    aliases = {"gpt-4o-mini": MODEL}
    settings = scripted_settings(model={"aliases": aliases}, engine={"max_model_len": 500})
    with running_server(settings) as server:
        cards = good(server.http.get("/v1/models"))["data"]
        own, alias = cards
        assert (own["id"], own["root"], own["parent"]) == (MODEL, MODEL, None)
        assert (alias["id"], alias["root"], alias["parent"]) == ("gpt-4o-mini", MODEL, None)
        assert own["max_model_len"] == 500
        assert good(server.http.get("/v1/models/gpt-4o-mini")) == alias
        assert good(server.chat(model="gpt-4o-mini", max_tokens=1))["model"] == MODEL
        chunks = server.chunks(CHAT, messages=HI, model="gpt-4o-mini", max_tokens=3)
        assert {chunk["model"] for chunk in chunks} == {MODEL}
        error = error_of(server.chat(model="gpt-4o"), 404)
        assert "gpt-4o-mini" in error["message"]
