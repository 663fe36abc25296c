"""The limits of an answer, as clients of other servers send them: its tokens, its stop strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.chat.answers import CHAT, HI, RESPONSES, TEXT, error_of, good
from tests.kit.jobs import chat_requests, completion_requests
from tests.kit.serving import RunningServer, scripted_settings, server_of

CONTEXT = 300
SPELLINGS = [
    (CHAT, {"messages": HI}, "max_tokens"),
    (CHAT, {"messages": HI}, "max_completion_tokens"),
    (TEXT, {"prompt": "hi"}, "max_tokens"),
    (RESPONSES, {"input": "hi"}, "max_output_tokens"),
    ("/generate", {"prompt": "hi"}, "max_new_tokens"),
]
DEFAULTS = {TEXT: 16, "/generate": 128}

every_spelling = pytest.mark.parametrize(("path", "body", "name"), SPELLINGS)

server = server_of(scripted_settings(engine={"max_model_len": CONTEXT}, text="two three "))


def end(answer: dict) -> tuple[str, int, int]:
    """Why the answer ended, and the tokens of prompt and answer."""
    usage = answer["usage"]
    if "output" in answer:
        assert answer["status"] == "incomplete"
        return "length", usage["input_tokens"], usage["output_tokens"]
    reason = answer["choices"][0]["finish_reason"] if "choices" in answer else ""
    reason = reason or answer["finish_reason"]
    return reason, usage["prompt_tokens"], usage["completion_tokens"]


@every_spelling
@pytest.mark.parametrize("limit", [CONTEXT - 1, CONTEXT, 32_768, 2**63 - 1])
def test_a_limit_above_the_room_shrinks_to_it(
    server: RunningServer, path: str, body: dict, name: str, limit: int
):
    reason, prompt, answered = end(good(server.post(path, **body, **{name: limit})))

    assert (reason, prompt + answered) == ("length", CONTEXT)


@every_spelling
def test_no_limit_in_other_words(server: RunningServer, path: str, body: dict, name: str):
    for nothing in (-1, None):
        reason, prompt, answered = end(good(server.post(path, **body, **{name: nothing})))
        assert (reason, answered) == ("length", DEFAULTS.get(path, CONTEXT - prompt))


@every_spelling
@pytest.mark.parametrize("limit", [-2, -(2**63), 2**63, 1.5, "7"])
def test_what_is_no_limit_is_refused(
    server: RunningServer, path: str, body: dict, name: str, limit: object
):
    assert error_of(server.post(path, **body, **{name: limit}))["param"] == name


@every_spelling
def test_only_completions_may_have_no_token(
    server: RunningServer, path: str, body: dict, name: str
):
    response = server.post(path, **body, **{name: 0})
    if path == TEXT:
        assert good(response)["usage"]["completion_tokens"] == 0
    else:
        assert name in error_of(response)["message"]


def test_a_limit_that_was_never_set_is_repeated_as_null(server: RunningServer):
    answer = good(server.post(RESPONSES, input="hi", max_output_tokens=-1))

    assert answer["max_output_tokens"] is None


def test_a_prompt_without_room_is_still_refused(server: RunningServer):
    messages = [{"role": "user", "content": "x" * CONTEXT}]
    for limit in ({}, {"max_tokens": 1}, {"max_tokens": CONTEXT}, {"max_tokens": -1}):
        error = error_of(server.post(CHAT, messages=messages, **limit))
        assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")


@given(st.integers(1, 99), st.none() | st.just(-1) | st.integers(1, 2**63 - 1))
def test_an_answer_never_leaves_the_context(prompt: int, limit: int | None):
    """The context of these requests is 100 tokens."""
    [chat] = chat_requests(prompt, max_tokens=limit)
    [text] = completion_requests([[1] * prompt], max_tokens=limit)
    asked = limit if limit not in (None, -1) else None

    assert chat.sampling.max_tokens == min(asked or 100, 100 - prompt)
    assert text.sampling.max_tokens == min(asked or 16, 100 - prompt)


@pytest.mark.parametrize(("path", "body"), {path: body for path, body, _ in SPELLINGS}.items())
def test_many_texts_may_end_an_answer(server: RunningServer, path: str, body: dict):
    others = [f"never {number}" for number in range(63)]
    assert "two " in server.post(path, **body).text
    for stop in ([*others, "two"], ["two", *others], ["x" * 4096, "two"]):
        answer = server.post(path, **body, stop=stop).text
        assert "two " not in answer
    assert error_of(server.post(path, **body, stop=[*others, "a", "b"]))["param"] == "stop"
