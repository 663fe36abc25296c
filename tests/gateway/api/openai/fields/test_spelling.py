"""Names in other spellings, and the other names of an answer's limit, at every endpoint."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.openai.bodies import KINDS
from gateway.chat.parsing.spelling import MAX_CHARACTERS, MIN_LETTERS, Spellings
from tests.kit.chat.answers import CHAT, HI, RESPONSES, TEXT, error_of
from tests.kit.serving import RunningServer

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HI},
    TEXT: {"prompt": "hi"},
    RESPONSES: {"input": "hi"},
    "/generate": {"prompt": "hi"},
}
LIMITS = {
    CHAT: "max_tokens",
    TEXT: "max_tokens",
    RESPONSES: "max_output_tokens",
    "/generate": "max_new_tokens",
}
OTHER_LIMITS = (
    *("n_predict", "num_predict", "max_new_tokens", "max_output_tokens", "max_tokens_to_sample"),
    *("max_completion_tokens", "max_tokens"),
)
WRONG: list[tuple[str, str]] = [
    ("maxTokens", "max_tokens"),
    ("maxCompletionTokens", "max_completion_tokens"),
    ("topP", "top_p"),
    ("topK", "top_k"),
    ("minP", "min_p"),
    ("frequencyPenalty", "frequency_penalty"),
    ("presencePenalty", "presence_penalty"),
    ("repetitionPenalty", "repetition_penalty"),
    ("stopSequences", "stop"),
    ("responseFormat", "response_format"),
    ("toolChoice", "tool_choice"),
    ("logitBias", "logit_bias"),
    ("randomSeed", "seed"),
    ("numPredict", "max_tokens"),
    ("max-tokens", "max_tokens"),
    ("MaxTokens", "max_tokens"),
    ("MAX_TOKENS", "max_tokens"),
    ("guidedJson", "guided_json"),
    ("Temperature", "temperature"),
    ("reasoningEffort", "reasoning_effort"),
]


def num_tokens(answer: dict[str, Any]) -> int:
    usage = answer["usage"]
    return int(usage.get("completion_tokens", usage.get("output_tokens")))


@pytest.mark.parametrize("name", OTHER_LIMITS)
@pytest.mark.parametrize("path", BODIES)
def test_the_limit_of_an_answer_is_read_by_all_its_names(
    open_server: RunningServer, path: str, name: str
):
    response = open_server.http.post(path, json={**BODIES[path], name: 3})
    if path == RESPONSES and name in KINDS[RESPONSES].__struct_fields__ and name != LIMITS[path]:
        assert f"`{LIMITS[path]}`" in error_of(response)["message"]
        return

    assert response.status_code == 200, response.text
    assert num_tokens(response.json()) == 3
    assert "x-ignored-parameters" not in response.headers
    error = error_of(open_server.http.post(path, json={**BODIES[path], name: "x"}))
    assert error["param"] == name
    if name != LIMITS[path]:
        both = {**BODIES[path], name: 3, LIMITS[path]: 4}
        assert open_server.http.post(path, json=both).status_code == 400


@pytest.mark.parametrize(("name", "meant"), WRONG)
def test_another_spelling_is_answered_with_the_right_one(
    open_server: RunningServer, name: str, meant: str
):
    body = {**BODIES[CHAT], "max_tokens": 3}
    error = error_of(open_server.http.post(CHAT, json={**body, name: 1}))

    assert (error["param"], error["code"]) == (name, "unknown_parameter")
    assert f"`{name}` is not a parameter here. Did you mean `{meant}`?" == error["message"]
    assert open_server.http.post(CHAT, json={**body, name: None}).status_code == 200


@pytest.mark.parametrize(
    ("path", "name", "meant"),
    [
        (RESPONSES, "maxOutputTokens", "max_output_tokens"),
        (RESPONSES, "nPredict", "max_output_tokens"),
        (RESPONSES, "topLogprobs", "top_logprobs"),
        (TEXT, "bestOf", "best_of"),
        ("/generate", "maxNewTokens", "max_new_tokens"),
        ("/generate", "nPredict", "max_new_tokens"),
        ("/v1/embeddings", "encodingFormat", "encoding_format"),
        ("/tokenize", "addSpecialTokens", "add_special_tokens"),
    ],
)
def test_the_right_spelling_is_that_of_the_endpoint(
    open_server: RunningServer, path: str, name: str, meant: str
):
    body = {**BODIES.get(path, {"input": "hi", "prompt": "hi"}), name: 1}
    if path == "/tokenize":
        del body["input"]
    elif path == "/v1/embeddings":
        del body["prompt"]
    assert f"Did you mean `{meant}`?" in error_of(open_server.http.post(path, json=body))["message"]


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("repeatPenalty", 1.1, 400),
        ("repeatPenalty", 1, 200),
        ("keepAlive", 5, 200),
        ("sessionId", "x", 200),
        ("webSearch", True, 400),
    ],
)
def test_a_name_that_is_not_read_has_the_same_fate_in_every_spelling(
    open_server: RunningServer, name: str, value: Any, status: int
):
    response = open_server.http.post(CHAT, json={**BODIES[CHAT], "max_tokens": 3, name: value})

    assert response.status_code == status, response.text
    if status == 400:
        assert error_of(response)["param"] == name
        assert error_of(response)["code"] == "unsupported_parameter"
    elif value != 1:
        assert response.headers["x-ignored-parameters"] == name


@settings(deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.randoms(use_true_random=False))
def test_every_name_is_found_in_every_spelling(path: str, random: Any):
    names = KINDS[path].__struct_fields__
    spellings = Spellings(names)
    for name in names:
        words = name.split("_")
        other = random.choice(
            [
                words[0] + "".join(map(str.title, words[1:])),
                "".join(map(str.title, words)),
                "-".join(words),
                name.upper(),
                " ".join(words),
            ]
        )
        is_long = len(re.sub("_", "", name)) >= MIN_LETTERS
        assert spellings.meant(other) == (name if is_long and other != name else None)
        assert spellings.meant(name) is None


def test_a_very_long_name_is_no_other_spelling():
    """To compare it would take as long as it is."""
    assert Spellings(["max_tokens"]).meant("max_" + "-" * MAX_CHARACTERS + "tokens") is None
    assert Spellings(["max_tokens"]).meant("max--tokens") == "max_tokens"
