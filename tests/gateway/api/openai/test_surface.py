"""Log-probabilities, best_of, suffix and their neighbours over real HTTP, one token per byte."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from tests.gateway.api.harness import WHOLE_ANSWER
from tests.kit.chat.answers import CHAT, HI, TEXT, error_of, good
from tests.kit.serving import MODEL, RunningServer

TOKENIZER = ByteTokenizer()


@pytest.fixture(scope="module")
def server(ending_server: RunningServer) -> RunningServer:
    return ending_server


def whole_chat(server: RunningServer, **body: Any) -> dict[str, Any]:
    return good(server.post(CHAT, **{"messages": HI, **body}))


def whole_text(server: RunningServer, **body: Any) -> dict[str, Any]:
    return good(server.post(TEXT, **body))


def refused(server: RunningServer, path: str, **body: Any) -> dict[str, Any]:
    return error_of(server.post(path, **body))


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 20},
        {"max_tokens": 200},
        {"stop": "brown"},
        {"stop": ["never", "the q"], "include_stop_str_in_output": True},
        {"stop_token_ids": [ord("q")]},
        {"max_tokens": 30, "ignore_eos": True, "n": 2},
    ],
)
def test_chat_logprobs_are_one_for_each_token(server: RunningServer, fields: dict[str, Any]):
    """With stop strings, with characters of several tokens, at the end; streamed and whole."""
    body = {"logprobs": True, "top_logprobs": 3, "seed": 1, **fields}
    answer = whole_chat(server, **body)
    chunks = server.chunks(CHAT, messages=HI, stream_options={"include_usage": True}, **body)

    told = {choice["index"]: choice["logprobs"]["content"] for choice in answer["choices"]}
    assert sum(map(len, told.values())) == answer["usage"]["completion_tokens"]
    streamed: dict[int, list[Any]] = {index: [] for index in told}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        if choice["logprobs"] is not None:
            assert choice["logprobs"]["refusal"] is None
            streamed[choice["index"]] += choice["logprobs"]["content"]
    assert streamed == told
    assert chunks[-1]["usage"] == answer["usage"]
    for choice in answer["choices"]:
        text = b"".join(bytes(entry["bytes"] or []) for entry in told[choice["index"]]).decode(
            errors="replace"
        )
        assert text.startswith(choice["message"]["content"])
        assert all(len(entry["top_logprobs"]) == 3 for entry in told[choice["index"]])


def test_the_token_that_ends_an_answer_is_told_by_its_name(server: RunningServer):
    choice = whole_chat(server, logprobs=True)["choices"][0]
    last = choice["logprobs"]["content"][-1]

    assert choice["finish_reason"] == "stop"
    assert (last["token"], last["bytes"], last["top_logprobs"]) == ("<|eos|>", None, [])


def test_logprobs_through_the_official_client(client: OpenAI):
    asked: Any = {"model": MODEL, "messages": HI, "max_tokens": 9, "seed": 1}
    chat = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    stream = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2, stream=True)
    completion = client.completions.create(model=MODEL, prompt="hi", max_tokens=9, logprobs=2)
    plain = client.chat.completions.create(**asked)

    content = chat.choices[0].logprobs.content
    assert len(content) == 9
    chunks = [chunk.choices[0].logprobs for chunk in stream]
    assert [e.logprob for c in chunks if c for e in c.content] == [e.logprob for e in content]
    assert [len(entry.top_logprobs) for entry in content] == [2] * 9
    assert len(completion.choices[0].logprobs.tokens) == 9
    assert plain.choices[0].logprobs is None


@pytest.mark.parametrize("num_top", [0, 5])
@pytest.mark.parametrize("fields", [{}, {"stop": "fox"}, {"echo": True}, {"n": 2}])
def test_completion_logprobs(server: RunningServer, num_top: int, fields: dict[str, Any]):
    """Four lists of one length; offsets count characters, streamed as whole."""
    body = {"prompt": "hü", "max_tokens": 40, "logprobs": num_top, "seed": 1, **fields}
    answer = whole_text(server, **body)
    chunks = server.chunks(TEXT, **body)

    for choice in answer["choices"]:
        told = choice["logprobs"]
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        parts = [c["logprobs"] for c in mine if c["logprobs"] is not None]
        for name, values in told.items():
            assert [value for part in parts for value in part[name]] == values
        assert "".join(c["text"] for c in mine) == choice["text"]
        for token, offset in zip(told["tokens"], told["text_offset"], strict=True):
            if len(token) == 1 and offset < len(choice["text"]):
                assert choice["text"][offset] == token
        scored = [top for top in told["top_logprobs"] if top is not None]
        assert all(len(top) == max(num_top, 1) for top in scored)
    echoed = 4 if "echo" in fields else 0
    num_tokens = sum(len(choice["logprobs"]["tokens"]) for choice in answer["choices"])
    assert num_tokens == answer["usage"]["completion_tokens"] + echoed


def test_an_echo_is_scored(server: RunningServer):
    """The first token follows nothing. Without an answer, and for several prompts."""
    answer = whole_text(server, prompt=[[256, *b"hi"], [104]], max_tokens=0, echo=True, logprobs=1)
    first, second = (choice["logprobs"] for choice in answer["choices"])

    assert [choice["text"] for choice in answer["choices"]] == ["hi", "h"]
    assert first["tokens"] == ["<|bos|>", "h", "i"]
    assert first["token_logprobs"][0] is None
    assert first["top_logprobs"][0] is None
    assert all(logprob < 0 for logprob in first["token_logprobs"][1:])
    assert first["text_offset"] == [0, 0, 1]
    assert second["tokens"] == ["h"]
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["usage"]["prompt_tokens"] == 4


def test_best_of_keeps_the_likeliest(server: RunningServer):
    """The scripted engine's log-probability depends on the seed alone, so all five are known."""
    body = {"prompt": ["a", "b"], "max_tokens": 6, "seed": 3, "logprobs": 0}
    every = whole_text(server, **body, n=5)
    best = whole_text(server, **body, n=2, best_of=5)
    silent = whole_text(server, **{**body, "logprobs": None}, n=1, best_of=5)

    def score(choice: dict[str, Any]) -> float:
        logprobs: list[float] = choice["logprobs"]["token_logprobs"]
        return sum(logprobs) / len(logprobs)

    for prompt in (0, 1):
        scores = sorted(map(score, every["choices"][5 * prompt :][:5]), reverse=True)
        kept = best["choices"][2 * prompt :][:2]
        assert len(set(scores)) == 5
        assert list(map(score, kept)) == scores[:2]
    assert [choice["index"] for choice in best["choices"]] == [0, 1, 2, 3]
    assert best["usage"]["completion_tokens"] == 2 * 5 * 6
    assert [choice["logprobs"] for choice in silent["choices"]] == [None, None]
    error = refused(server, TEXT, prompt="a", best_of=3, stream=True)
    assert (error["param"], error["code"]) == ("best_of", "invalid_value")


def test_seeds_repeat_and_choices_differ(server: RunningServer):
    """What depends on the seed here are the log-probabilities."""

    def scores(**fields: Any) -> list[float]:
        answer = whole_text(server, prompt="a", max_tokens=1, logprobs=0, **fields)
        return [choice["logprobs"]["token_logprobs"][0] for choice in answer["choices"]]

    assert len(set(scores(n=3, seed=10))) == 3
    assert scores(n=3, seed=10) == scores(n=3, seed=10)
    assert scores(n=3, seed=10) != scores(n=3, seed=11)


def test_a_suffix_makes_a_prompt_with_a_gap(server: RunningServer):
    """The marks in the order of the models' training; texts are literal. The scripted answer
    depends on the sum of the prompt's tokens, so equal sums give equal answers."""
    answer = whole_text(server, prompt="a<|eos|>", suffix="b<|bos|>", max_tokens=9)
    fim = TOKENIZER.fim_tokens
    ids = [256, fim.prefix, *b"a<|eos|>", fim.suffix, *b"b<|bos|>", fim.middle]
    by_ids = whole_text(server, prompt=ids, max_tokens=9)
    tokens = whole_text(server, prompt=[[97]], suffix="b", max_tokens=9)

    assert answer["usage"] == by_ids["usage"]
    assert answer["choices"][0]["text"] == by_ids["choices"][0]["text"]
    assert tokens["usage"]["prompt_tokens"] == 6
    echo = whole_text(server, prompt="a", suffix="b", max_tokens=9, echo=True)
    assert echo["choices"][0]["text"].startswith("a")
    for fields, param in (
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"truncate_prompt_tokens": 2}, "truncate_prompt_tokens"),
    ):
        assert refused(server, TEXT, prompt="a", suffix="b", **fields)["param"] == param


def test_truncation_keeps_the_end(server: RunningServer):
    short = whole_text(server, prompt="hello world", max_tokens=5, truncate_prompt_tokens=5)
    by_ids = whole_text(server, prompt=list(b"world"), max_tokens=5)
    echo = whole_text(
        server, prompt="hello world", max_tokens=0, echo=True, truncate_prompt_tokens=5
    )
    long = whole_text(server, prompt="x" * 1000, max_tokens=5, truncate_prompt_tokens=-1)
    much = [{"role": "user", "content": "x" * 1000}]
    chat = whole_chat(server, messages=much, max_tokens=5, truncate_prompt_tokens=-1)

    assert short["choices"][0]["text"] == by_ids["choices"][0]["text"]
    assert short["usage"] == by_ids["usage"]
    assert echo["choices"][0]["text"] == "world"
    assert long["usage"]["total_tokens"] == chat["usage"]["total_tokens"] == 500
    for wrong, code in ((0, "invalid_value"), (-2, "invalid_value")):
        error = refused(server, TEXT, prompt="a", truncate_prompt_tokens=wrong)
        assert (error["param"], error["code"]) == ("truncate_prompt_tokens", code)


def test_usage_in_every_chunk(server: RunningServer):
    """It never falls and ends at the total, for all choices together."""
    for path, prompt in ((CHAT, {"messages": HI}), (TEXT, {"prompt": "hi"})):
        chunks = server.chunks(
            path,
            **prompt,
            n=2,
            max_tokens=20,
            stream_options={"include_usage": True, "continuous_usage_stats": True},
        )
        counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
        assert counts == sorted(counts)
        assert counts[0] < counts[-1] == 40
        assert chunks[-1]["choices"] == []
        only = server.chunks(
            path, **prompt, max_tokens=5, stream_options={"continuous_usage_stats": True}
        )
        assert all(chunk["choices"] and chunk["usage"] for chunk in only)


def test_continuing_the_last_message(server: RunningServer):
    """The prompt ends in the middle of the assistant's message."""
    begun = [*HI, {"role": "assistant", "content": "so"}]
    goes_on = whole_chat(server, messages=begun, continue_final_message=True, max_tokens=5)
    by_hand = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nso"
    expected = whole_text(server, prompt=by_hand, max_tokens=5)

    assert goes_on["choices"][0]["message"]["content"] == expected["choices"][0]["text"]
    assert goes_on["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]
    for fields in (
        {"messages": begun, "continue_final_message": True, "add_generation_prompt": True},
        {"messages": HI, "continue_final_message": True},
    ):
        assert refused(server, CHAT, **fields)["param"] == "continue_final_message"
    without = whole_chat(server, add_generation_prompt=False, max_tokens=5)
    marks = len("<|im_start|>assistant\n") - len("<|im_start|>") + 1
    plain = whole_chat(server, max_tokens=5)
    assert plain["usage"]["prompt_tokens"] - without["usage"]["prompt_tokens"] == marks


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"logit_bias": {"263": 1}}, "logit_bias['263']", "invalid_value"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_type"),
        ({"logit_bias": {"1": 101}}, "logit_bias['1']", "invalid_value"),
        ({"logit_bias": {"-1": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": [1]}, "logit_bias", "invalid_type"),
        ({"stop_token_ids": [1, 263]}, "stop_token_ids[1]", "invalid_value"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens", "invalid_value"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        ({"min_p": 1.5}, "min_p", "invalid_value"),
        ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
        ({"logprobs": 6}, "logprobs", None),
        ({"chat_template": "x"}, "chat_template", "unsupported_parameter"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_mistakes_are_named(
    server: RunningServer, path: str, fields: dict[str, Any], param: str, code: str | None
):
    prompt = {"messages": HI} if path == CHAT else {"prompt": "hi"}
    error = refused(server, path, **{**prompt, **fields})

    assert error["param"].startswith(param)
    assert param in error["message"]
    if code is not None:
        assert error["code"] == code
    assert server.post(path, **prompt, max_tokens=1).status_code == 200


def test_variables_that_templates_may_not_get(server: RunningServer):
    for name in ("tools", "messages", "bos_token", "add_generation_prompt"):
        error = refused(server, CHAT, messages=HI, chat_template_kwargs={name: "x"})
        assert error["param"] == "chat_template_kwargs"
        assert name in error["message"]


def test_stop_tokens_and_stop_strings_in_the_text(server: RunningServer):
    for fields, hidden, included in (
        ({"stop": "quick"}, "the ", "the quick"),
        ({"stop_token_ids": [ord("k")]}, "quic", "quick"),
    ):
        without = whole_chat(server, **fields)["choices"][0]
        with_it = whole_chat(server, **fields, include_stop_str_in_output=True)["choices"][0]

        assert without["message"]["content"].endswith(hidden)
        assert with_it["message"]["content"].endswith(included)
        assert without["finish_reason"] == with_it["finish_reason"] == "stop"


def test_min_tokens_holds_every_end_back(server: RunningServer):
    """Stop string, stop token and the end of the script."""
    num_script = len(WHOLE_ANSWER.encode())
    for fields in ({"stop": "quick"}, {"stop_token_ids": [ord("k")]}, {}):
        usage = whole_chat(server, min_tokens=num_script + 40, **fields)["usage"]
        assert usage["completion_tokens"] >= num_script + 40
        assert whole_chat(server, **fields)["usage"]["completion_tokens"] <= num_script + 1


def test_headers_of_every_kind_of_answer(server: RunningServer):
    for body in ({"max_tokens": 2}, {"max_tokens": 2, "stream": True}, {"max_tokens": -1}):
        response = server.http.post(
            CHAT, json={"model": MODEL, "messages": HI, **body}, headers={"x-request-id": "mine-1"}
        )
        assert response.headers["x-request-id"] == "mine-1"
        assert int(response.headers["openai-processing-ms"]) >= 0


def test_refusals_are_the_official_clients_errors(client: OpenAI):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=HI, extra_body={"use_beam_search": True}
        )

    assert caught.value.param == "use_beam_search"
    assert caught.value.code == "unsupported_parameter"
