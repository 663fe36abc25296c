"""Thinking on the TensorRT-LLM engine, against the double of each release."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.settings.schema import ModelSettings, Settings
from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import TensorRTConfig
from runtime.engines import create_engine
from runtime.engines.base import Engine
from runtime.errors import InvalidRequest
from runtime.messages.request import Request, Thinking
from runtime.messages.structured_output import StructuralTag, StructuredOutput, TagStructure
from runtime.tokenizers.load import load_tokenizer
from tests.kit.engines import a_request, engine_answers
from tests.kit.models.tensorrt_model import EOS_TOKEN_ID, VOCAB_SIZE, write_tensorrt_model
from tests.kit.serving import MODEL, running_server
from tests.kit.tensorrt_double import LATE, RELEASES, STABLE, double_of, findable

START, END = VOCAB_SIZE, VOCAB_SIZE + 1
SAY = [*b"Let me think about it. "] * 4
ANSWER = [*b"So it is."]
TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}"
    "[assistant] {% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>{% endif %}"
)

Make = Callable[..., Engine]

request = partial(a_request, prompt_token_ids=[1, 2], max_tokens=30, temperature=0.0)


def write_thinker(folder: Path, **plan: Any) -> Path:
    """It would think for ever."""
    plan = {"say": SAY * 20, **plan}
    tags = ("<think>", "</think>")
    return write_tensorrt_model(folder, more_tokens=tags, chat_template=TEMPLATE, **plan)


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    engines: list[Engine] = []

    def make_engine(*, overlaps: bool = False, **tensorrt: Any) -> Engine:
        folder = write_thinker(tmp_path / str(len(engines)))
        settings = TensorRTConfig(disable_overlap_scheduler=not overlaps, **tensorrt)
        config = EngineConfig(name="tensorrt_llm", tensorrt_llm=settings)
        engines.append(create_engine(config, str(folder), load_tokenizer(folder)))
        return engines[-1]

    with double_of(request.param):
        yield make_engine
        for engine in engines:
            engine.close()


def run(engine: Engine, *requests: Request) -> dict[str, list[int]]:
    return {name: answer.token_ids for name, answer in engine_answers(engine, *requests).items()}


every_release = pytest.mark.parametrize("make", RELEASES, indirect=True)


def thinking(**fields: Any) -> Thinking:
    fields = {"starts_inside": True, "closing_token_ids": (END,), **fields}
    return Thinking(start="<think>", end="</think>", start_token_id=START, **fields)


@every_release
def test_budgets_side_by_side_and_over_a_restart(make: Make):
    engine = make()
    whole = run(
        engine,
        request("0", thinking=thinking(budget=0)),
        request("9", thinking=thinking(budget=9)),
        request("free", thinking=thinking(budget=1000)),
        request("message", thinking=thinking(budget=4, closing_token_ids=(33, 33, END))),
        request("does not", thinking=thinking(budget=4, starts_inside=False)),
    )

    assert whole["0"][0] == END
    assert whole["9"][:10] == [*SAY[:9], END]
    assert whole["free"] == whole["does not"] == SAY[:30]
    assert whole["message"][:7] == [*SAY[:4], 33, 33, END]
    assert all(len(answer) == 30 for answer in whole.values())
    for num_told in (3, 5, 6, 7, 12):
        told = whole["message"][:num_told]
        closing = thinking(budget=4, closing_token_ids=(33, 33, END))
        rest = run(engine, request("again", thinking=closing, output_token_ids=told))
        assert told + rest["again"] == whole["message"]


@every_release
def test_a_budget_ends_a_token_late_where_steps_overlap(make: Make):
    """A processor does not see the newest token; nothing is forced twice."""
    closing = (33, 33, END)
    answers = run(
        make(overlaps=True, max_num_tokens=16),
        request("0", thinking=thinking(budget=0, closing_token_ids=closing)),
        request(
            "5",
            prompt_token_ids=[1, 2] * 40,
            thinking=thinking(budget=5, closing_token_ids=closing),
        ),
    )

    assert answers["0"][:4] == [*closing, SAY[0]]
    assert answers["5"][:10] == [*SAY[:6], *closing, SAY[0]]


@pytest.mark.parametrize("make", [STABLE], indirect=True)
def test_a_thought_of_the_answers_own_is_found_by_its_tokens(make: Make):
    """A request that goes on inside a block that the answer has opened."""
    engine = make()
    told = [START, *SAY[:2]]
    inside = thinking(budget=4, starts_inside=False)

    answer = run(engine, request(thinking=inside, output_token_ids=told))["r"]

    assert answer[2] == END
    assert END not in answer[:2]


@pytest.mark.parametrize("make", [LATE], indirect=True)
def test_what_would_break_a_thought_is_refused_by_name(make: Make):
    wanted = StructuredOutput(choice=("a", "b"))
    engine = make()
    with pytest.raises(InvalidRequest, match="while the model thinks") as caught:
        engine.add(request(thinking=thinking(), structured_output=wanted))
    assert caught.value.param == "response_format"
    answer = run(engine, request(thinking=thinking(starts_inside=False), structured_output=wanted))
    assert answer["r"] in ([97, EOS_TOKEN_ID], [98, EOS_TOKEN_ID])

    textual = Thinking(start="<a>", end="</a>", budget=3, closing_token_ids=(60, 47, 97, 62))
    with pytest.raises(InvalidRequest, match="a token of its own") as caught:
        engine.add(request(thinking=textual))
    assert caught.value.param == "thinking_token_budget"


@pytest.mark.parametrize("make", [STABLE, LATE], indirect=True)
def test_calls_that_may_come_are_no_reason_to_refuse(make: Make):
    """A tag that the package holds to leaves the rest of the text free (the double's guide calls at
    once). What it cannot hold to is left to the model, and the budget is kept."""
    structure = TagStructure('{"name": "f", "arguments": ', '{"type": "object"}', "}", False, "t")
    texts = {"trigger": "<c>", "opening": "<c>", "separator": "", "close": "</c>"}
    engine = make()

    def answer(**fields: Any) -> list[int]:
        tag = StructuralTag(**texts, structures=(structure,), **fields)
        wanted = StructuredOutput(structural_tag=tag, source="tools")
        return run(engine, request(thinking=thinking(budget=9), structured_output=wanted))["r"]

    assert bytes(answer()[:3]) == b"<c>"
    assert answer(at_start=True)[:10] == [*SAY[:9], END]


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("make", [STABLE], indirect=True)
def test_nothing_is_forced_twice_where_tokens_are_shown_late(make: Make, late: int):
    """As with the overlap scheduler."""
    from tensorrt_llm.tensor import logits_tensor

    from runtime.engines.tensorrt_llm.token_rules import Rules, TokenRules

    rules = Rules(
        prompt_token_ids=[1, 2],
        output_token_ids=[],
        thinking=thinking(budget=5, closing_token_ids=(33, END)),
        spelled={START: b"<think>", END: b"</think>"},
    )
    processor, answer = TokenRules(rules), list[int]()
    for number in range(20):
        logits = np.zeros(VOCAB_SIZE + 2, dtype=np.float32)
        logits[SAY[number]] = 1.0
        seen = [1, 2, *answer[: max(len(answer) - late, 0)]]
        processor(1, logits_tensor(logits), [seen], None, 1)
        answer.append(int(logits.argmax()))

    budget = 5 + late
    assert answer[: budget + 2] == [*SAY[:budget], 33, END]
    assert answer[budget + 2 :] == SAY[budget + 2 : 20]


@pytest.mark.parametrize(("release", "overlaps"), [(STABLE, True), (LATE, False)])
def test_a_budget_over_http(release: str, overlaps: bool, tmp_path: Path):
    """The tag that the template writes opens the block, and the budget ends it."""
    folder = write_thinker(tmp_path / "model", certain=True)
    settings = Settings(
        model=ModelSettings(served_name=MODEL, name_or_path=str(folder)),
        engine=EngineConfig(
            name="tensorrt_llm",
            max_model_len=1000,
            tensorrt_llm=TensorRTConfig(disable_overlap_scheduler=not overlaps),
        ),
    )
    with findable(release), running_server(settings, model_path=str(folder)) as server:
        answer = server.chat(thinking_token_budget=9, max_tokens=25).json()
        format_ = {"response_format": {"type": "json_object"}}
        refused = server.chat(max_tokens=25, **format_)
        unthinking = server.chat(max_tokens=25, reasoning_effort="none", **format_)

    message = answer["choices"][0]["message"]
    num_thought = 9 + overlaps
    assert message["reasoning_content"] == bytes(SAY[:num_thought]).decode().strip()
    assert len(message["content"]) == 24 - num_thought
    details = answer["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == num_thought
    assert refused.json()["error"]["param"] == "response_format"
    assert unthinking.json()["choices"][0]["message"]["content"].startswith("{")


@every_release
@pytest.mark.parametrize("budget", [0, 5])
def test_a_budget_holds_for_a_prompt_that_is_read_in_pieces(make: Make, budget: int):
    """Processors are called for each piece, and only the last call counts."""
    engine = make(max_num_tokens=16)
    prompt = [1, 2] * 40
    closing = (END, *b"ok")
    whole = run(
        engine,
        request(
            "r",
            prompt_token_ids=prompt,
            thinking=thinking(budget=budget, closing_token_ids=closing),
        ),
        request("beside", prompt_token_ids=prompt, thinking=thinking(budget=budget)),
    )

    assert whole["r"][budget : budget + 3] == list(closing)
    assert whole["beside"][budget] == END
    assert [len(tokens) for tokens in whole.values()] == [30, 30]


@every_release
def test_forced_tokens_count(make: Make):
    """They are part of the answer: of its limit, of its scores, and of what a restart knows."""
    engine = make()
    closing = (END, *b"so, ")
    nothing = thinking(budget=0, closing_token_ids=closing)
    answers = engine_answers(
        engine,
        request("short", thinking=nothing, max_tokens=3),
        request("exact", thinking=nothing, max_tokens=5),
        request("scored", thinking=nothing, max_tokens=8, logprobs=0),
        request("resumed", thinking=nothing, max_tokens=8, output_token_ids=list(closing[:2])),
    )
    plain = run(engine, request("8", thinking=nothing, max_tokens=8))["8"]

    assert answers["short"].token_ids == list(closing[:3])
    assert answers["exact"].token_ids == list(closing)
    assert answers["short"].finish_reason == "length"
    assert answers["scored"].token_ids == plain
    assert len(answers["scored"].logprobs or []) == 8
    assert [*closing[:2], *answers["resumed"].token_ids] == plain
