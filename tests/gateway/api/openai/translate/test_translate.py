"""Requests of the API to requests of the runtime: defaults, limits, refusals."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.protocol.requests import ChatCompletionRequest
from gateway.api.openai.translate.job import completion_job
from gateway.api.openai.translate.messages import turns_of
from gateway.api.openai.translate.prompts import completion_prompts
from gateway.chat.conversation import Conversation
from gateway.chat.template.messages import template_messages
from gateway.chat.template.tool_support import ToolSupport
from gateway.generation.prompts import check_token_ids, empty_prompt
from runtime.errors import ContextLengthExceeded, InvalidRequest
from tests.kit.jobs import CALLER, chat, chat_requests, completion, completion_requests

SHOWS_MESSAGES = ToolSupport(shows_messages=True)


def refusal(**fields: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        chat_requests(**fields)
    return caught.value


def test_defaults():
    (request,) = chat_requests()

    assert request.request_id == "a-0"
    assert request.sampling.max_tokens == 90
    assert request.sampling.temperature == 1.0
    assert request.sampling.top_p == 1.0
    assert request.sampling.stop == ()
    assert completion_requests([[1]])[0].sampling.max_tokens == 16


def test_null_means_absent():
    nulls = dict.fromkeys(ChatCompletionRequest.__struct_fields__)
    for name in ("model", "messages"):
        del nulls[name]

    (request,) = chat_requests(**nulls)

    assert request.sampling.max_tokens == 90


def test_sampling_is_carried_over():
    (request,) = chat_requests(
        temperature=0, top_p=0.5, presence_penalty=-1, frequency_penalty=2, stop="\n", seed=7
    )

    assert request.sampling.temperature == 0.0
    assert request.sampling.top_p == 0.5
    assert request.sampling.presence_penalty == -1.0
    assert request.sampling.frequency_penalty == 2.0
    assert request.sampling.stop == ("\n",)
    assert request.sampling.seed == 7


def test_all_requests_of_an_answer_are_served_alike():
    asked = {"priority": 7, "user": "t", "cache_salt": "s"}
    for requests in (chat_requests(n=3, **asked), completion_requests([[1], [2]], n=2, **asked)):
        served = {
            (made.priority, made.tenant, made.cache_salt, made.arrival_time, made.deadline)
            for made in requests
        }
        assert served == {(7, "t", "s", 1.0, 2.0)}


def test_several_stops():
    (request,) = chat_requests(stop=["a", "b", "c", "d"])

    assert request.sampling.stop == ("a", "b", "c", "d")


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 8))
def test_choices_have_neighbouring_seeds(seed, n):
    """Every seed of 64 bits works, and the engine sees one that fits its own field."""
    seeds = [request.sampling.seed for request in chat_requests(seed=seed, n=n)]

    assert len(set(seeds)) == n
    assert all(0 <= value < 2**63 for value in seeds)
    assert seeds == [(seed + i) % 2**63 for i in range(n)]


def test_without_seed_requests_differ():
    assert chat_requests()[0].sampling.seed != chat_requests()[0].sampling.seed


def test_choices_of_a_prompt_are_neighbours():
    requests = completion_requests([[1], [2, 3]], n=2)

    assert [request.prompt_token_ids for request in requests] == [[1], [1], [2, 3], [2, 3]]
    assert [request.request_id for request in requests] == ["a-0", "a-1", "a-2", "a-3"]


def test_both_names_of_max_tokens():
    assert chat_requests(max_tokens=5)[0].sampling.max_tokens == 5
    assert chat_requests(max_completion_tokens=5)[0].sampling.max_tokens == 5
    assert chat_requests(max_tokens=5, max_completion_tokens=5)[0].sampling.max_tokens == 5
    assert refusal(max_tokens=5, max_completion_tokens=6).param == "max_tokens"


def test_context():
    """A prompt that leaves no room is refused; a limit above the room shrinks to it."""
    assert chat_requests(99)[0].sampling.max_tokens == 1
    too_long = refusal(prompt_length=100)
    assert isinstance(too_long, ContextLengthExceeded)
    assert too_long.param == "messages"
    assert too_long.code == "context_length_exceeded"
    assert "100" in str(too_long)
    assert chat_requests(99, max_completion_tokens=91)[0].sampling.max_tokens == 1


def test_context_of_completions():
    """The default of 16 shrinks to what is left; a prompt may fill the context to be echoed."""
    assert completion_requests([[1] * 95])[0].sampling.max_tokens == 5
    assert completion_requests([[1] * 100], max_tokens=0)[0].sampling.max_tokens == 0
    with pytest.raises(ContextLengthExceeded) as caught:
        completion_requests([[1] * 100])
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "v", "format": "wav"}),
        ("web_search_options", {}),
        ("moderation", {"model": "m"}),
    ],
)
def test_unsupported_is_refused_by_name(name, value):
    error = refusal(**{name: value})

    assert error.param == name
    assert error.code == "unsupported_parameter"
    assert name in str(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", False),
        ("top_logprobs", 0),
        ("logit_bias", {}),
        ("tools", []),
        ("tool_choice", "none"),
        ("response_format", {"type": "text"}),
        ("verbosity", "medium"),
        ("modalities", ["text"]),
        ("parallel_tool_calls", False),
        ("user", "u"),
        ("metadata", {"a": "b"}),
        ("store", True),
        ("service_tier", "flex"),
        ("safety_identifier", "s"),
        ("prompt_cache_key", "k"),
        ("prompt_cache_retention", "24h"),
        ("prediction", {"type": "content", "content": "x"}),
    ],
)
def test_what_asks_for_nothing_is_accepted(name, value):
    assert len(chat_requests(**{name: value})) == 1


def test_completion_parameters():
    assert len(completion_requests([[1]], best_of=2, n=2)) == 2
    for fields, param, code in (
        ({"best_of": 3, "stream": True}, "best_of", "invalid_value"),
        ({"best_of": 1, "n": 2}, "best_of", "invalid_value"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            completion_requests([[1]], **fields)
        assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"], "n": 2}, "prompt"),
        ({"prompt": "a", "n": 2}, "n"),
        ({"prompt": "a", "n": 2, "best_of": 3}, "best_of"),
    ],
)
def test_the_parameter_that_asks_for_many_answers(fields, param):
    assert completion_job(completion(**fields), "a", CALLER).count_param == param


def test_stream_options_want_a_stream():
    assert refusal(stream_options={"include_usage": True}).param == "stream_options"
    assert chat_requests(stream=True, stream_options={"include_obfuscation": False})


def test_prompts():
    def prompts(prompt: object) -> object:
        return completion_prompts(completion(prompt=prompt))

    assert prompts("a") == ["a"]
    assert prompts(None) == [""]
    assert prompts(["a", "b"]) == ["a", "b"]
    assert prompts([1, 2]) == [[1, 2]]
    assert prompts([[1], [2]]) == [[1], [2]]
    for wrong in ([], ["a", 1], [1, [2]], [[1], "a"]):
        with pytest.raises(InvalidRequest) as caught:
            prompts(wrong)
        assert caught.value.param == "prompt"


def test_empty_prompt():
    assert empty_prompt(7) == [7]
    with pytest.raises(InvalidRequest) as caught:
        empty_prompt(None)
    assert caught.value.param == "prompt"


def test_token_ids_outside_the_vocabulary():
    check_token_ids([[0, 9]], 10)
    for prompts, param in (
        ([[10]], "prompt"),
        ([[-1]], "prompt"),
        ([[1], [10]], "prompt[1]"),
        ([[1], []], "prompt[1]"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            check_token_ids(prompts, 10)
        assert caught.value.param == param


def messages(
    *given: dict[str, object], support: ToolSupport = SHOWS_MESSAGES
) -> list[dict[str, object]]:
    return template_messages(turns_of(chat(messages=list(given)).messages), support)


def test_messages_for_templates():
    assert messages(
        {"role": "developer", "content": "d"},
        {"role": "system", "content": [{"type": "text", "text": "s"}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "u", "name": "Ann", "extra": 1},
        {"role": "assistant", "content": None, "refusal": "no", "name": "Bob"},
        {"role": "function", "name": "f", "content": "r"},
    ) == [
        {"role": "system", "content": "d"},
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a\nb"},
        {"role": "user", "content": "u", "name": "Ann"},
        {"role": "assistant", "content": "no", "name": "Bob"},
        {"role": "tool", "content": "r", "name": "f"},
    ]


def test_tool_calls_for_templates():
    """Arguments become the object that templates print; broken JSON stays what it was."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    broken = {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{"}}
    assistant, tool = messages(
        {"role": "assistant", "tool_calls": [call, broken]},
        {"role": "tool", "tool_call_id": "1", "content": "r"},
    )

    arguments = [item["function"]["arguments"] for item in assistant["tool_calls"]]
    assert arguments == [{"x": 1}, "{"]
    assert assistant["content"] == ""
    assert tool == {"role": "tool", "content": "r", "tool_call_id": "1", "name": "f"}
    (old,) = messages({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}})
    assert old["tool_calls"][0]["function"] == {"name": "f", "arguments": {}}


SAID = {"type": "text", "text": "a"}
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "c", "content": "r"}


def test_calls_and_results_in_anthropics_form():
    """Calls of an assistant behind its own; results as messages in their places."""
    call = {"id": "d", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    failed = {"type": "tool_result", "tool_use_id": "d", "content": [SAID, SAID], "is_error": True}
    assert messages(
        {"role": "assistant", "content": [SAID, USE, SAID], "tool_calls": [call]},
        {"role": "user", "content": [RESULT, failed, SAID, SAID, {**RESULT, "content": None}]},
        {"role": "user", "name": "Ann", "content": [SAID, RESULT, SAID]},
    ) == [
        {
            "role": "assistant",
            "content": "a\na",
            "tool_calls": [
                {"id": "d", "type": "function", "function": {"name": "g", "arguments": {}}},
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
            ],
        },
        {"role": "tool", "content": "r", "tool_call_id": "c", "name": "f"},
        {"role": "tool", "content": "Error: a\na", "tool_call_id": "d", "name": "g"},
        {"role": "user", "content": "a\na"},
        {"role": "tool", "content": "", "tool_call_id": "c", "name": "f"},
        {"role": "user", "content": "a", "name": "Ann"},
        {"role": "tool", "content": "r", "tool_call_id": "c", "name": "f"},
        {"role": "user", "content": "a", "name": "Ann"},
    ]


def test_a_call_that_is_told_in_both_forms_is_one_call():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    (assistant,) = messages({"role": "assistant", "content": [USE], "tool_calls": [call]})

    assert [call["id"] for call in assistant["tool_calls"]] == ["c"]
    assert assistant["content"] == ""


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ({"role": "user", "content": [SAID]}, False),
        ({"role": "assistant", "content": [SAID]}, False),
        ({"role": "assistant", "content": [SAID, USE]}, True),
        ({"role": "user", "content": [RESULT]}, True),
        ({"role": "tool", "tool_call_id": "c", "content": "r"}, True),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, True),
    ],
)
def test_conversations_that_use_tools(message, wanted):
    conversation = Conversation(turns=turns_of(chat(messages=[message]).messages))
    assert conversation.uses_tools is wanted


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
            "messages[0].content[1]",
        ),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "file"}]}, "messages[0].content[0]"),
        ({"role": "assistant", "audio": {"id": "x"}}, "messages[0].audio"),
        ({"role": "assistant"}, "messages[0].content"),
        ({"role": "user", "content": [USE]}, "messages[0].content[0]"),
        ({"role": "assistant", "content": [SAID, RESULT]}, "messages[0].content[1]"),
        ({"role": "system", "content": [RESULT]}, "messages[0].content[0]"),
        ({"role": "tool", "tool_call_id": "c", "content": [RESULT]}, "messages[0].content[0]"),
        ({"role": "user", "content": [SAID, {"type": "image"}]}, "messages[0].content[1]"),
        (
            {"role": "user", "content": [RESULT, {**RESULT, "content": [SAID, {"type": "image"}]}]},
            "messages[0].content[1].content[1]",
        ),
        (
            {"role": "user", "content": [{**RESULT, "content": [{"type": "document"}]}]},
            "messages[0].content[0].content[0]",
        ),
    ],
)
def test_messages_that_cannot_be_shown(message, param):
    with pytest.raises(InvalidRequest) as caught:
        messages(message)

    assert caught.value.param == param


@pytest.mark.parametrize(
    "last",
    [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "a", "function_call": {"name": "f", "arguments": ""}},
        {"role": "assistant", "content": [SAID, USE]},
    ],
)
def test_only_a_text_of_the_assistant_is_continued(last):
    assert refusal(messages=[last], continue_final_message=True).param == "continue_final_message"


CONVERSATION: tuple[dict[str, object], ...] = (
    {"role": "user", "content": "u"},
    {
        "role": "assistant",
        "content": "So.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "[1]"}},
        ],
    },
    {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "r2"}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "r1", "status": "error"},
)


def test_tool_messages_that_the_template_would_drop():
    """They are told in plain words, results that follow each other in one message."""
    assert messages(*CONVERSATION, support=ToolSupport()) == [
        {"role": "user", "content": "u"},
        {
            "role": "assistant",
            "content": 'So.\n[{"name": "f", "arguments": {}}, {"name": "g", "arguments": [1]}]',
        },
        {"role": "user", "content": "Result of g: r2\nResult of f: r1"},
    ]


def test_calls_in_the_form_that_a_template_wants():
    """Arguments as JSON in a text; ids of nine letters and digits, the same for call and result."""
    support = ToolSupport(shows_messages=True, text_arguments=True, short_ids=True)
    _, assistant, second, first = messages(*CONVERSATION, support=support)
    calls = assistant["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ["{}", "[1]"]
    assert [first["tool_call_id"], second["tool_call_id"]] == [call["id"] for call in calls]
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", call["id"]) for call in calls)
    assert (first["name"], second["name"]) == ("f", "g")
    assert len({call["id"] for call in calls}) == 2
