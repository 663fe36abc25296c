"""Thinking as a client sees it: effort, budgets, reasoning apart from the answer."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import msgspec
import psutil
import pytest
from openai import OpenAI

from gateway.api.openai.translate.job import conversation_of
from gateway.api.openai.translate.messages import turns_of
from gateway.chat.reasoning.formats import FORMATS
from gateway.chat.reasoning.plan import (
    Reasoner,
    TemplateControls,
    plan_thinking,
    prepare_thinking,
    template_controls,
)
from gateway.chat.reasoning.wish import ReasoningEffort, ReasoningWish
from gateway.chat.template.messages import template_messages
from gateway.chat.template.template import ChatTemplate
from gateway.settings.schema import Settings
from runtime.errors import InvalidRequest
from runtime.messages.request import Thinking
from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from tests.kit.chat.answers import CHAT, HI, good
from tests.kit.jobs import chat, chat_requests
from tests.kit.root import search_path
from tests.kit.serving import (
    MODEL,
    RunningServer,
    running_server,
    scripted_settings,
    server_of,
    wait_for,
)

PROMPT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
THOUGHT, ANSWER = "Is it blue? <b>Yes.", "It is blue, </think> not red."
TEXT = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
TOKENIZER = ByteTokenizer()


def saying(text: str, **settings: Any) -> Settings:
    """The scripted engine, whose answer to HI begins with the beginning of the text."""
    offset = sum(TOKENIZER.encode(PROMPT, add_special=True, parse_special=True)) % len(text)
    turned = text[-offset:] + text[:-offset]
    model = {name: settings.pop(name) for name in list(settings) if "thinking" in name}
    model |= {"reasoning_parser": settings.pop("reasoning_parser", "qwen3")}
    return scripted_settings(model=model, text=turned, **settings)


server = server_of(saying(TEXT, num_tokens=len(TEXT)))


def whole(server: RunningServer, **body: Any) -> dict[str, Any]:
    return good(server.post(CHAT, messages=HI, **body))


def streamed(
    server: RunningServer, **body: Any
) -> tuple[dict[int, dict[str, str]], dict[str, Any]]:
    """What each choice said, kind by kind, and the usage."""
    options = {"stream_options": {"include_usage": True}}
    chunks = server.chunks(CHAT, messages=HI, **options, **body)
    said: dict[int, dict[str, str]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts = said.setdefault(choice["index"], {"content": ""})
        for name in ("content", "reasoning_content", "reasoning"):
            if name in choice["delta"]:
                texts[name] = texts.get(name, "") + choice["delta"][name]
        if choice["finish_reason"]:
            texts["finish_reason"] = choice["finish_reason"]
    return said, chunks[-1]["usage"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"n": 3},
        {"max_tokens": 12},
        {"max_tokens": 3},
        {"thinking_token_budget": 0},
        {"thinking_token_budget": 4},
        {"thinking_token_budget": 4, "n": 2, "logprobs": True},
        {"include_reasoning": False},
        {"reasoning_effort": "none"},
        {"stop": "blue"},
    ],
)
def test_the_stream_says_what_the_whole_answer_says(server: RunningServer, body: dict[str, Any]):
    answer = whole(server, **body)
    said, usage = streamed(server, **body)

    assert usage == answer["usage"]
    for choice in answer["choices"]:
        expected = {
            name: choice["message"][name]
            for name in ("content", "reasoning_content", "reasoning")
            if name in choice["message"]
        }
        assert said[choice["index"]] == {**expected, "finish_reason": choice["finish_reason"]}


def test_reasoning_is_apart_and_counted(server: RunningServer):
    answer = whole(server)
    message = answer["choices"][0]["message"]

    assert message["reasoning_content"] == message["reasoning"] == THOUGHT
    assert message["content"] == ANSWER
    details = answer["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == len(f"\n{THOUGHT}\n")
    hidden = whole(server, include_reasoning=False)
    assert "reasoning" not in hidden["choices"][0]["message"]
    assert "reasoning_content" not in hidden["choices"][0]["message"]
    assert hidden["choices"][0]["message"]["content"] == ANSWER
    assert hidden["usage"] == answer["usage"]


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_a_budget_caps_the_thought_and_the_answer_goes_on(server: RunningServer, budget: int):
    answer = whole(server, thinking_token_budget=budget)
    message = answer["choices"][0]["message"]

    assert message.get("reasoning_content", "") == f"\n{THOUGHT}"[:budget].strip()
    assert message["content"]
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == budget


@pytest.mark.parametrize("effort", [None, *get_args(ReasoningEffort)])
def test_every_effort_is_taken(server: RunningServer, effort: str | None):
    """By a model that thinks; nothing else is an effort."""
    assert whole(server, reasoning_effort=effort)["choices"][0]["message"]["content"]
    refused = server.chat(reasoning_effort=f"{effort}er")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "reasoning_effort")


def test_an_answer_that_ends_while_it_thinks(server: RunningServer):
    answer = whole(server, max_completion_tokens=15)
    choice = answer["choices"][0]

    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == ""
    assert choice["message"]["reasoning_content"] == THOUGHT[: 15 - len("<think>\n")].strip()
    details = answer["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == 15 - len("<think>")


def test_the_reason_of_a_stop_is_told(server: RunningServer):
    for body, reason, stop_reason in [
        ({"stop": ["never", "blue"]}, "stop", "blue"),
        ({"stop_token_ids": [ord("?")]}, "stop", ord("?")),
        ({"max_tokens": 5}, "length", None),
        ({}, "stop", None),
    ]:
        choice = whole(server, **body)["choices"][0]
        chunks = server.chunks(CHAT, messages=HI, **body)
        text = server.post("/v1/completions", prompt=PROMPT, **{"max_tokens": 200, **body}).json()

        assert (choice["finish_reason"], choice["stop_reason"]) == (reason, stop_reason)
        assert chunks[-1]["choices"][0]["stop_reason"] == stop_reason
        assert text["choices"][0]["stop_reason"] == stop_reason


def test_logprobs_cover_the_thought_too(server: RunningServer):
    answer = whole(server, logprobs=True)
    tokens = answer["choices"][0]["logprobs"]["content"]

    assert len(tokens) == answer["usage"]["completion_tokens"]
    text = bytes(byte for token in tokens for byte in token["bytes"] or ()).decode()
    assert text == TEXT


def test_the_official_client_sees_it(server: RunningServer):
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        asked: Any = {"model": MODEL, "messages": HI, "reasoning_effort": "high"}
        answer = client.chat.completions.create(**asked)
        stream = client.chat.completions.create(**asked, stream=True)
        deltas = [chunk.choices[0].delta for chunk in stream]

    message: Any = answer.choices[0].message
    assert (message.reasoning_content, message.content) == (THOUGHT, ANSWER)
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == len(THOUGHT) + 2
    thoughts = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    assert "".join(thoughts) == THOUGHT


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"thinking_token_budget": -1}, "thinking_token_budget"),
        ({"thinking_token_budget": True}, "thinking_token_budget"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"include_reasoning": "no"}, "include_reasoning"),
    ],
)
def test_what_means_nothing_is_refused(server: RunningServer, body: dict[str, Any], param: str):
    error = server.chat(**body).json()["error"]
    assert error["param"] == param


@pytest.mark.slow
def test_a_thought_goes_on_after_the_engine_has_died():
    """Killed in the middle of it: the client sees a pause, the same text and the same budget."""
    settings = saying("Let me think. " * 9, reasoning_parser="deepseek_r1", step_ms=10)
    others = set(psutil.Process().children())
    body = {"thinking_token_budget": 30, "max_tokens": 60}
    with running_server(settings) as server, ThreadPoolExecutor(1) as pool:
        calm, _ = streamed(server, **body)
        (engine,) = set(psutil.Process().children()) - others
        stream = pool.submit(streamed, server, **body)
        wait_for(lambda: server.metric("engine_generation_tokens_total") >= 60 + 10)
        engine.kill()
        sampled = server.metric("engine_generation_tokens_total")
        disturbed, usage = stream.result()
        others.add(engine)
        assert len(set(psutil.Process().children()) - others) == 1, "another engine has taken over"

    assert sampled < 60 + 30, "it was killed too late"
    assert disturbed == calm
    assert len(calm[0]["reasoning_content"]) in (29, 30)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 30


def test_defaults_of_the_settings():
    settings = saying(
        "Let me think. ",
        reasoning_parser="deepseek_r1",
        thinking_token_budget=6,
        thinking_budget_message=" Time is up.",
    )
    with running_server(settings) as server:
        default = whole(server, max_tokens=50)
        own = whole(server, max_tokens=50, thinking_token_budget=3)
        effort = whole(server, max_tokens=50, reasoning_effort="high")

    assert default["choices"][0]["message"]["reasoning_content"] == "Let me Time is up."
    assert own["choices"][0]["message"]["reasoning_content"] == "Let Time is up."
    assert effort["choices"][0]["message"]["content"] == ""


# What a request asks for


DEAF = TemplateControls()
EFFORTS = get_args(ReasoningEffort)
QWEN = TemplateControls(("enable_thinking",))
DEEPSEEK = TemplateControls(("enable_thinking", "thinking"))
GPT_OSS = TemplateControls((), ("low", "medium", "high"))
MISTRAL = TemplateControls((), ("none", "high"))


@pytest.mark.parametrize(
    ("reasoning_format", "controls", "effort", "told", "budget"),
    [
        ("qwen3", QWEN, None, {}, 77),
        ("qwen3", QWEN, "none", {"enable_thinking": False}, 77),
        ("qwen3", QWEN, "minimal", {"enable_thinking": False}, 77),
        ("qwen3", QWEN, "low", {"enable_thinking": True}, 1024),
        ("qwen3", QWEN, "medium", {"enable_thinking": True}, 8192),
        ("qwen3", QWEN, "high", {"enable_thinking": True}, None),
        ("qwen3", DEEPSEEK, "max", {"enable_thinking": True, "thinking": True}, None),
        ("qwen3", DEAF, "none", {}, 0),
        ("qwen3", DEAF, "xhigh", {}, None),
        ("openai_gptoss", GPT_OSS, "none", {"reasoning_effort": "low"}, 0),
        ("openai_gptoss", GPT_OSS, "minimal", {"reasoning_effort": "low"}, 77),
        ("openai_gptoss", GPT_OSS, "medium", {"reasoning_effort": "medium"}, 77),
        ("openai_gptoss", GPT_OSS, "max", {"reasoning_effort": "high"}, 77),
        ("mistral", MISTRAL, "none", {"reasoning_effort": "none"}, 77),
        ("mistral", MISTRAL, "minimal", {"reasoning_effort": "none"}, 77),
        ("mistral", MISTRAL, "low", {"reasoning_effort": "high"}, 77),
        ("mistral", MISTRAL, "max", {"reasoning_effort": "high"}, 77),
        (None, GPT_OSS, "low", {"reasoning_effort": "low"}, 77),
        (None, DEAF, "none", {}, 0),
    ],
)
def test_effort_is_told_to_the_template_or_becomes_a_budget(
    reasoning_format: str | None,
    controls: TemplateControls,
    effort: str | None,
    told: dict[str, Any],
    budget: int | None,
):
    found = None if reasoning_format is None else FORMATS[reasoning_format]
    plan = plan_thinking(ReasoningWish(effort=effort), found, controls, 77)
    assert (plan.variables, plan.budget) == (told, budget)

    if reasoning_format is not None:
        capped = ReasoningWish(effort=effort, budget=5)
        assert plan_thinking(capped, found, controls, 77).budget == 5


def test_a_model_that_does_not_think_has_no_budget():
    with pytest.raises(InvalidRequest, match=r"model\.reasoning_parser") as caught:
        plan_thinking(ReasoningWish(budget=5), None, DEAF, None)
    assert caught.value.param == "thinking_token_budget"
    assert caught.value.code == "unsupported_parameter"


@pytest.mark.parametrize("effort", [None, *EFFORTS])
@pytest.mark.parametrize("is_on", [None, True, False])
def test_what_a_model_that_does_not_think_is_asked_is_named(
    effort: ReasoningEffort | None, is_on: bool | None
):
    wish = ReasoningWish(effort=effort, is_on=is_on, effort_param="e")
    plan = plan_thinking(wish, None, DEAF, None)

    asked = [] if effort in (None, "none") else ["e"]
    assert list(plan.unused) == asked + ["enable_thinking"] * bool(is_on)
    assert not plan.variables


@pytest.mark.parametrize("is_on", [True, False])
def test_thinking_is_switched_on_and_off(is_on: bool):
    """By the template's own switches; without any, no budget is left."""
    wish = ReasoningWish(is_on=is_on)
    switched = TemplateControls(switches=("enable_thinking", "thinking"))
    plan = plan_thinking(wish, FORMATS["qwen3"], switched, 77)
    assert plan.variables == {"enable_thinking": is_on, "thinking": is_on}
    assert plan.budget == 77
    assert plan_thinking(wish, FORMATS["qwen3"], DEAF, 77).budget == (77 if is_on else 0)
    assert not plan.unused


@pytest.mark.parametrize(("effort", "is_on"), [("none", True), ("low", False), ("max", False)])
def test_an_effort_that_contradicts_the_switch_is_refused(effort: str, is_on: bool):
    with pytest.raises(InvalidRequest, match=f"`{effort}`") as caught:
        conversation_of(chat(reasoning_effort=effort, enable_thinking=is_on))
    assert caught.value.param == "enable_thinking"


def thinking_of(prompt: str, budget: int | None, **fields: Any) -> Thinking | None:
    """What the engine is told."""
    reasoner = Reasoner(FORMATS["qwen3"], TOKENIZER, "Stop.")
    [made] = chat_requests(thinking=prepare_thinking(reasoner, prompt, None, budget), **fields)
    return made.thinking


def test_the_engine_hears_of_thinking_only_where_it_matters():
    structured = {"response_format": {"type": "json_object"}}

    assert thinking_of("bot:", None) is None
    assert thinking_of("bot:<think></think>", 5, **structured) is None
    inside = thinking_of("bot:<think>\n", None, **structured)
    assert inside is not None
    assert (inside.starts_inside, inside.budget) == (True, None)
    capped = thinking_of("bot:", 5)
    assert capped is not None
    assert (capped.starts_inside, capped.budget) == (False, 5)
    assert bytes(capped.closing_token_ids) == b"Stop.</think>"


def test_control_tokens_that_tell_thoughts_are_shown():
    class Vocabulary(ByteTokenizer):
        """`<|bos|>` and `<|eos|>` stand for no text."""

    reasoning_format = msgspec.structs.replace(FORMATS["mistral"], start="<|bos|>", end="<|eos|>")
    reasoner = Reasoner(reasoning_format, Vocabulary())

    prepared = prepare_thinking(reasoner, "bot:", None, 5)

    assert prepared.shown_token_ids == (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)
    assert prepared.thinking is not None
    assert prepared.thinking.start_token_id == TOKENIZER.bos_token_id
    assert prepared.thinking.closing_token_ids == (TOKENIZER.eos_token_id,)


SWITCHED = (
    "{%- set ns = namespace(thinking=true) %}{{ ns.thinking }} enable_thinking"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
)
CHOOSY = (
    "{% if reasoning_effort is defined and reasoning_effort not in ['none', 'high'] %}"
    "{{ raise_exception('no') }}{% endif %}{{ reasoning_effort or 'none' }}"
)


@pytest.mark.parametrize(
    ("source", "reasoning_format", "controls"),
    [
        ("plain {{ messages[0].content }}", "qwen3", DEAF),
        (SWITCHED, "qwen3", QWEN),
        (
            "{% if not thinking %}{% set thinking = enable_thinking %}{% endif %}{{ thinking }}",
            "qwen3",
            DEEPSEEK,
        ),
        ("Reasoning: {{ reasoning_effort }}", "openai_gptoss", GPT_OSS),
        (CHOOSY, "mistral", MISTRAL),
        (CHOOSY, None, MISTRAL),
        ("{{ raise_exception('never') }}", "qwen3", DEAF),
    ],
)
def test_what_a_template_listens_to_is_found_by_trying(
    source: str, reasoning_format: str | None, controls: TemplateControls
):
    template = ChatTemplate(source, bos_token="", eos_token="")
    assert (
        template_controls(template, None if reasoning_format is None else FORMATS[reasoning_format])
        == controls
    )


HISTORY = (
    "{% for message in messages %}"
    "{{ message.reasoning_content }}|{{ message.content }};{% endfor %}"
)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_earlier_thoughts_reach_the_template(name: str):
    data = chat(
        messages=[
            *HI,
            {"role": "assistant", "content": "blue", name: "why"},
            {"role": "assistant", "content": None, name: "only that"},
        ]
    )
    template = ChatTemplate(HISTORY, bos_token="", eos_token="")
    messages = template_messages(turns_of(data.messages), template.tools)

    assert messages[1]["thinking"] == "why"
    assert template.render(messages).endswith("|hi;why|blue;only that|;")
    plain = turns_of(chat(messages=[*HI, {"role": "assistant", "content": "blue"}]).messages)
    assert "reasoning" not in json.dumps(template_messages(plain, template.tools))


@pytest.mark.parametrize(
    ("options", "shown"), [((), f"\x1b[2m{THOUGHT}\x1b[0m\n"), (("--hide-reasoning",), "")]
)
def test_the_terminal_shows_thoughts_apart(
    server: RunningServer, tmp_path: Path, options: tuple[str, ...], shown: str
):
    """Dimmed, and not among the answer that a pipe gets."""
    command = [sys.executable, "-m", "gateway", "chat", "--port", str(server.port)]
    talk = subprocess.run(
        [*command, "--message", "hi", "--max-tokens", str(len(TEXT)), *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search_path(), "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert talk.stdout == f"{ANSWER}\n"
    joined = talk.stderr.replace("\x1b[0m\x1b[2m", "")
    assert joined == shown
