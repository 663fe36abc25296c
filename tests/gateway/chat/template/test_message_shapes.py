"""Every behaviour of a template with every shape of a conversation: each word of the conversation
is in the prompt."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.translate.job import conversation_of
from gateway.chat.template.prompt import render_conversation
from gateway.chat.template.template import ChatTemplate
from runtime.errors import InvalidRequest, ModelFileError
from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from runtime.tokenizers.control_text import ControlTexts
from tests.kit.chat.templates import BLIND_TEMPLATES, BROKEN_TEMPLATES, TEMPLATES
from tests.kit.jobs import chat

CONTROL = ControlTexts(ByteTokenizer())
COMPILED = {
    name: ChatTemplate(source, bos_token="", eos_token="") for name, source in TEMPLATES.items()
}
TOOLS = [{"type": "function", "function": {"name": "lookup", "description": "Looks it up"}}]

USER = {"role": "user", "content": "uno"}
AGAIN = {"role": "user", "content": "dos"}
SYSTEM = {"role": "system", "content": "tres"}
ANSWER = {"role": "assistant", "content": "cuatro"}
OTHER_ANSWER = {"role": "assistant", "content": "cinco"}


def calls(*words: str, **fields: Any) -> dict[str, Any]:
    """A message with a call for each word, which is in the arguments."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [call(word, json.dumps({"key": word})) for word in words],
        **fields,
    }


def call(word: str, arguments: str) -> dict[str, Any]:
    function = {"name": "lookup", "arguments": arguments}
    return {"id": f"call_{word}", "type": "function", "function": function}


def result(word: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"call_{word}", "content": f"result {word}"}


def with_arguments(arguments: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [call("broken", arguments)]}


SHAPES: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "one": ([USER], ["uno"]),
    "two users": ([USER, AGAIN], ["uno", "dos"]),
    "two users in turns": ([USER, AGAIN, ANSWER, USER], ["uno", "dos", "cuatro"]),
    "two answers": ([USER, ANSWER, OTHER_ANSWER, AGAIN], ["cuatro", "cinco", "dos"]),
    "system": ([SYSTEM, USER], ["tres", "uno"]),
    "system alone": ([SYSTEM], ["tres"]),
    "two systems": ([SYSTEM, {"role": "system", "content": "seis"}, USER], ["tres", "seis", "uno"]),
    "system later": ([USER, ANSWER, SYSTEM, AGAIN], ["uno", "cuatro", "tres", "dos"]),
    "system last": ([USER, SYSTEM], ["uno", "tres"]),
    "two systems apart": (
        [SYSTEM, USER, ANSWER, {"role": "system", "content": "seis"}, AGAIN],
        ["tres", "uno", "seis", "dos"],
    ),
    "developer": ([{"role": "developer", "content": "tres"}, USER], ["tres", "uno"]),
    "answer first": ([ANSWER, USER], ["cuatro", "uno"]),
    "answer behind a system": ([SYSTEM, ANSWER, USER], ["tres", "cuatro", "uno"]),
    "empty user": ([{"role": "user", "content": ""}, ANSWER, USER], ["cuatro", "uno"]),
    "empty answer": ([USER, {"role": "assistant", "content": ""}, AGAIN], ["uno", "dos"]),
    "parts": (
        [{"role": "user", "content": [{"type": "text", "text": t} for t in ("uno", "dos")]}],
        ["uno", "dos"],
    ),
    "name": ([{"role": "user", "name": "ana", "content": "uno"}, AGAIN], ["uno", "dos"]),
    "call": ([USER, calls("siete"), result("siete")], ["uno", "siete", "result siete"]),
    "call, result, user": (
        [USER, calls("siete"), result("siete"), AGAIN],
        ["uno", "siete", "result siete", "dos"],
    ),
    "call, result, system": (
        [USER, calls("siete"), result("siete"), SYSTEM],
        ["siete", "result siete", "tres"],
    ),
    "call, result, answer, user": (
        [USER, calls("siete"), result("siete"), ANSWER, AGAIN],
        ["siete", "result siete", "cuatro", "dos"],
    ),
    "two calls": (
        [USER, calls("siete", "ocho"), result("siete"), result("ocho"), ANSWER],
        ["siete", "ocho", "result siete", "result ocho", "cuatro"],
    ),
    "two calls, results in disorder": (
        [USER, calls("siete", "ocho"), result("ocho"), result("siete")],
        ["siete", "ocho", "result siete", "result ocho"],
    ),
    "two calls, one result": (
        [USER, calls("siete", "ocho"), result("ocho"), AGAIN],
        ["siete", "ocho", "result ocho", "dos"],
    ),
    "two rounds": (
        [USER, calls("siete"), result("siete"), calls("ocho"), result("ocho"), ANSWER, AGAIN],
        ["siete", "ocho", "result siete", "result ocho", "cuatro"],
    ),
    "text beside a call": (
        [USER, calls("siete", content="nueve"), result("siete"), ANSWER, AGAIN],
        ["nueve", "siete", "result siete", "cuatro", "dos"],
    ),
    "text and thought beside two calls": (
        [
            USER,
            calls("siete", "ocho", content="nueve", reasoning_content="hmm"),
            *(result("siete"), result("ocho"), AGAIN),
        ],
        ["nueve", "siete", "ocho", "result siete", "result ocho", "dos"],
    ),
    "call without result": ([USER, calls("siete"), AGAIN], ["uno", "siete", "dos"]),
    "result without call": ([USER, result("siete")], ["uno", "result siete"]),
    "result without call, later": ([USER, ANSWER, result("siete"), AGAIN], ["result siete", "dos"]),
    "call first": ([calls("siete"), result("siete"), USER], ["siete", "result siete", "uno"]),
    "broken arguments": (
        [USER, with_arguments('{"diez": '), result("broken"), AGAIN],
        ["diez", "result broken", "dos"],
    ),
    "arguments that are a list": ([USER, with_arguments('["diez"]'), result("broken")], ["diez"]),
    "arguments that are a number": ([USER, with_arguments("101010"), result("broken")], ["101010"]),
    "no arguments": ([USER, with_arguments(""), result("broken")], ["result broken"]),
    "function message": (
        [
            USER,
            {
                "role": "assistant",
                "function_call": {"name": "lookup", "arguments": '{"a": "siete"}'},
            },
            {"role": "function", "name": "lookup", "content": "ocho"},
            AGAIN,
        ],
        ["siete", "ocho", "dos"],
    ),
}


def prompt_of(template: ChatTemplate, messages: list[dict[str, Any]], **fields: Any) -> str:
    conversation = conversation_of(chat(messages=messages, **fields))
    return render_conversation(conversation, template, {}, CONTROL).text


@pytest.mark.parametrize("behaviour", TEMPLATES)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_word_is_lost(behaviour: str, shape: str) -> None:
    messages, words = SHAPES[shape]
    for tools in ({}, {"tools": TOOLS}):
        prompt = prompt_of(COMPILED[behaviour], messages, **tools)
        missing = [
            word for word in [*words, *(["Looks it up"] if tools else [])] if word not in prompt
        ]
        assert not missing, prompt


KINDS = ("user", "system", "answer", "call", "calls", "broken", "result", "other result")


def message_of(kind: str, number: int) -> tuple[dict[str, Any], list[str]]:
    """A message and its words, which no other message has."""
    words = [f"w{number}{letter}z" for letter in "abc"]
    match kind:
        case "call":
            return calls(words[0]), words[:1]
        case "calls":
            return calls(*words[:2], content=words[2]), words
        case "broken":
            return with_arguments(f'{{"{words[0]}": '), words[:1]
        case "result" | "other result":
            return result(words[0]) | {"tool_call_id": kind}, words[:1]
    role = "assistant" if kind == "answer" else kind
    return {"role": role, "content": words[0]}, words[:1]


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8),
    behaviour=st.sampled_from([*TEMPLATES]),
)
def test_no_word_of_any_conversation_is_lost(kinds: list[str], behaviour: str) -> None:
    numbered = [message_of(kind, number) for number, kind in enumerate(kinds)]

    prompt = prompt_of(COMPILED[behaviour], [message for message, _ in numbered])
    missing = [word for _, words in numbered for word in words if word not in prompt]
    assert not missing, prompt


def test_messages_that_fit_are_left_alone() -> None:
    """A template that takes anything gets what the client has sent."""
    messages = [SYSTEM, USER, AGAIN, ANSWER, OTHER_ANSWER, SYSTEM, USER]

    prompt = prompt_of(COMPILED["plain"], messages)
    assert prompt.count("<|im_start|>") == len(messages) + 1
    assert prompt.index("tres") < prompt.index("uno")


@pytest.mark.parametrize(
    ("behaviour", "shape", "prompt"),
    [
        (
            "takes turns, no system",
            "two systems apart",
            "<|im_start|>user\ntres\n\nuno<|im_end|>\n<|im_start|>assistant\ncuatro<|im_end|>\n"
            "<|im_start|>user\nseis\n\ndos<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "takes turns, folds the system",
            "two systems",
            "[user]tres\n\nseis\n\nuno\n<|im_start|>assistant\n",
        ),
        (
            "takes turns, no system",
            "answer first",
            "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\ncuatro<|im_end|>\n"
            "<|im_start|>user\nuno<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "one call a message, and no text beside it",
            "two calls",
            '[user]uno{"name": "lookup", "arguments": {"key": "siete"}}[tool]result siete'
            '{"name": "lookup", "arguments": {"key": "ocho"}}[tool]result ocho'
            "[assistant]cuatro<|im_start|>assistant\n",
        ),
        (
            "walks over arguments",
            "broken arguments",
            "[user]uno[assistant]<function=lookup><parameter=arguments>"
            '{"diez": </parameter></function>[tool]result broken[user]dos'
            "<|im_start|>assistant\n",
        ),
    ],
)
def test_the_form_that_a_template_gets(behaviour: str, shape: str, prompt: str) -> None:
    assert prompt_of(COMPILED[behaviour], SHAPES[shape][0]) == prompt


@pytest.mark.parametrize("behaviour", TEMPLATES)
def test_an_answer_is_continued_in_every_form(behaviour: str) -> None:
    """The prompt ends with the answer so far."""
    for messages in ([USER, ANSWER], [SYSTEM, USER, ANSWER, OTHER_ANSWER]):
        options = {"continue_final_message": True, "add_generation_prompt": False}
        prompt = prompt_of(COMPILED[behaviour], messages, **options)
        assert prompt.endswith(messages[-1]["content"])


@pytest.mark.parametrize("source", BROKEN_TEMPLATES.values(), ids=BROKEN_TEMPLATES.keys())
def test_a_text_that_is_no_template(source: str) -> None:
    with pytest.raises(ModelFileError, match="not a Jinja template"):
        ChatTemplate(source, bos_token="", eos_token="")


@pytest.mark.parametrize("source", BLIND_TEMPLATES.values(), ids=BLIND_TEMPLATES.keys())
def test_a_template_that_shows_no_user_is_known_for_it(source: str) -> None:
    assert ChatTemplate(source, bos_token="", eos_token="").messages.obstacle


def test_a_template_without_a_memory() -> None:
    """It serves single messages; a conversation is refused rather than cut."""
    template = ChatTemplate("{{ messages[-1].content }}", bos_token="", eos_token="")

    assert prompt_of(template, [USER]) == "uno"
    with pytest.raises(InvalidRequest, match="single message") as caught:
        prompt_of(template, [USER, ANSWER, AGAIN])
    assert caught.value.param == "messages"


def test_a_refusal_in_the_words_of_the_template() -> None:
    source = "{% if mood %}{{ raise_exception('no moods') }}{% endif %}{{ messages[0].content }}"
    template = ChatTemplate(source, bos_token="", eos_token="")
    conversation = conversation_of(chat(messages=[USER]))

    with pytest.raises(InvalidRequest, match="no moods"):
        render_conversation(conversation, template, {"mood": "x"}, CONTROL)
