"""Thinking in the engine process: where an answer stands, budgets, and structure behind it."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.config.engine import EngineConfig
from runtime.engines import create_engine
from runtime.engines.base import Engine, SequenceOutput
from runtime.messages.request import Request, Thinking
from runtime.messages.structured_output import StructuredOutput
from runtime.text.detokenizer import Detokenizer, spell
from runtime.text.thinking import ThinkingTracker
from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer
from tests.kit.chat.cuts import cut
from tests.kit.engines import (
    ONE_THREAD,
    a_request,
    core_answers,
    needs_llama_library,
    scripted_core,
)
from tests.kit.models.tiny_model import write_tiny_model

BYTES = ByteTokenizer()
TAGS = {"start": "<think>", "end": "</think>"}
CHANNELS = Thinking(
    start="<|channel|>analysis<|message|>",
    end="<|end|>",
    answer="<|channel|>final<|message|>",
    repeats=True,
)


def ids(text: str) -> list[int]:
    return list(text.encode())


def tracker(thinking: Thinking) -> ThinkingTracker:
    return ThinkingTracker(thinking, partial(spell, BYTES))


@given(
    thought=st.text(alphabet="ab <>/", max_size=10),
    places=st.lists(st.integers(0, 100), max_size=30),
    starts_inside=st.booleans(),
)
def test_tokens_of_a_thought_are_counted_however_it_is_cut(
    thought: str, places: list[int], starts_inside: bool
):
    """Tokens that touch the thought count, tags do not; a tag may lie inside a token."""
    before = "" if starts_inside else " <think>"
    text = f"{before}{thought}</think>so <think>a</think>"
    if "</think>" in f"{thought}</think>"[:-1]:
        return
    tokens = [part.encode() for part in cut(text, places)]
    made = ThinkingTracker(Thinking(**TAGS, starts_inside=starts_inside), tokens.__getitem__)

    made.push_all(range(len(tokens)))

    begin, end, starts = len(before), len(before + thought), [0]
    for token in tokens:
        starts.append(starts[-1] + len(token))
    assert made.is_answering
    assert made.num_reasoning_tokens == sum(begin <= start < end for start in starts[:-1])


def test_phases_of_one_block():
    made = tracker(Thinking(**TAGS))
    assert made.may_start
    made.push_all(ids(" \n"))
    assert made.may_start
    made.push_all(ids("<thi"))
    assert not made.may_start
    assert not made.is_thinking
    made.push_all(ids("nk>a <think> b"))
    assert made.is_thinking
    made.push_all(ids("</think>"))
    assert made.is_answering
    assert made.num_reasoning_tokens == len("a <think> b")


@pytest.mark.parametrize("text", ["Hello <think>", "<thing>", "</think>"])
def test_an_answer_without_a_block_is_an_answer(text: str):
    made = tracker(Thinking(**TAGS))
    made.push_all(ids(text))
    assert made.is_answering
    assert made.num_reasoning_tokens == 0


def test_channels_think_until_the_final_one():
    made = tracker(CHANNELS)
    made.push_all(ids("<|channel|>analysis<|message|>why<|end|><|start|>assistant"))
    assert not made.is_thinking
    assert not made.is_answering
    made.push_all(ids("<|channel|>commentary<|message|>wait<|end|><|start|>assistant"))
    made.push_all(ids("<|channel|>analysis<|message|>now<|end|><|start|>assistant"))
    assert not made.is_answering
    made.push_all(ids("<|channel|>final<|message|>so"))
    assert made.is_answering
    assert made.num_reasoning_tokens == len("whynow")


def say(thinking: Thinking, text: str) -> str:
    """What comes of a model that says `text` and goes on where it was interrupted."""
    made, said, wanted = tracker(thinking), b"", iter(ids(text))
    while True:
        token = made.forced_token_id
        if token is None and (token := next(wanted, None)) is None:
            return said.decode()
        made.push(token)
        said += bytes((token,))


@pytest.mark.parametrize("budget", range(9))
def test_a_budget_ends_the_thinking(budget: int):
    thinking = Thinking(**TAGS, budget=budget, closing_token_ids=tuple(ids("!</think>")))

    assert (
        say(thinking, "<think>12345678")
        == f"<think>{'12345678'[:budget]}!</think>" + ("12345678"[budget:])
    )
    assert say(thinking, "no thought") == "no thought"
    assert say(thinking, "<think>") == ("<think>" if budget else "<think>!</think>")


def test_a_budget_is_for_all_blocks_together():
    closing = "<|end|><|start|>assistant<|channel|>final<|message|>"
    thinking = Thinking(
        start=CHANNELS.start,
        end=CHANNELS.end,
        answer=CHANNELS.answer,
        repeats=True,
        budget=12,
        closing_token_ids=tuple(ids(closing)),
    )
    first = f"{CHANNELS.start}why{CHANNELS.end}<|start|>assistant"

    said = say(thinking, f"{first}{CHANNELS.start}abcdefghi so")

    assert said == f"{first}{CHANNELS.start}abcdefghi{closing} so"


@given(
    text=st.text(alphabet="ab<>/think", max_size=40),
    budget=st.integers(0, 20),
    places=st.lists(st.integers(0, 60), max_size=4),
)
def test_who_reads_the_tokens_again_stands_where_the_first_one_stood(
    text: str, budget: int, places: list[int]
):
    thinking = Thinking(
        **TAGS, starts_inside=True, budget=budget, closing_token_ids=tuple(ids("..</think>"))
    )
    said = ids(say(thinking, text))
    whole = tracker(thinking)
    for place in range(len(said) + 1):
        again = tracker(thinking)
        again.push_all(said[:place])
        states = [
            (each.forced_token_id, each.is_thinking, each.is_answering, each.num_reasoning_tokens)
            for each in (whole, again)
        ]
        assert states[0] == states[1]
        if place < len(said):
            assert whole.forced_token_id in (None, said[place])
            whole.push(said[place])


def test_control_tokens_are_shown_where_they_are_asked_for():
    shown = Detokenizer(BYTES, [BYTES.im_start_token_id])
    text = shown.push([65, BYTES.im_start_token_id, BYTES.im_end_token_id, 66])
    assert text == "A<|im_start|>B"
    assert Detokenizer(BYTES).push([65, BYTES.im_start_token_id]) == "A"


# The scripted engine

request = partial(a_request, prompt_token_ids=[0], max_tokens=30)


CLOSED = Thinking(
    **TAGS, starts_inside=True, budget=5, closing_token_ids=tuple(ids(" Enough.</think>"))
)


def test_the_scripted_engine_keeps_budgets_side_by_side():
    core = scripted_core("abcdefghij")
    for budget in (0, 3, 30):
        thinking = Thinking(
            **TAGS, starts_inside=True, budget=budget, closing_token_ids=tuple(ids("</think>"))
        )
        core.submit(request(str(budget), thinking=thinking))
    core.submit(request("free"))

    texts = {name: answer.text for name, answer in core_answers(core).items()}

    assert texts == {
        "0": "</think>ijabcdefghijabcdefghij",
        "3": "abc</think>bcdefghijabcdefghij",
        "30": "abcdefghijabcdefghijabcdefghij",
        "free": "abcdefghijabcdefghijabcdefghij",
    }


@pytest.mark.parametrize("num_told", range(25))
def test_a_budget_is_kept_over_a_restart(num_told: int):
    """Before the end of thinking, in the middle of it and after it."""
    core = scripted_core("abcdefghij")
    core.submit(request(thinking=CLOSED))
    whole = core_answers(core)["r"]
    assert whole.text.startswith("abcde Enough.</think>")

    second = scripted_core("abcdefghij")
    second.submit(request(thinking=CLOSED, output_token_ids=whole.token_ids[:num_told]))
    rest = core_answers(second)["r"]

    assert whole.token_ids[:num_told] + rest.token_ids == whole.token_ids
    assert whole.text.endswith(rest.text)


# The embedded engine

POINT = StructuredOutput(
    json=json.dumps(
        {
            "type": "object",
            "properties": {"x": {"type": "integer", "maximum": 99}, "up": {"type": "boolean"}},
            "required": ["x", "up"],
            "additionalProperties": False,
        }
    )
)


@pytest.fixture(scope="module")
def thinker_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tags are control tokens, as Magistral's."""
    path = tmp_path_factory.mktemp("model") / "thinker.gguf"
    return write_tiny_model(path, more_control_tokens=["[THINK]", "[/THINK]"])


@pytest.fixture(scope="module")
def tokenizer(thinker_path: Path) -> Tokenizer:
    return load_tokenizer(str(thinker_path))


@pytest.fixture(scope="module")
def engine(thinker_path: Path, tokenizer: Tokenizer) -> Iterator[Engine]:
    needs_llama_library()
    config = EngineConfig(max_num_seqs=8, num_kv_tokens=4096, llama_cpp=ONE_THREAD)
    engine = create_engine(config, str(thinker_path), tokenizer)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def start(tokenizer: Tokenizer) -> int:
    [token_id] = tokenizer.encode("[THINK]", add_special=False, parse_special=True)
    return token_id


@pytest.fixture(scope="module")
def end(tokenizer: Tokenizer) -> int:
    [token_id] = tokenizer.encode("[/THINK]", add_special=False, parse_special=True)
    return token_id


def run_engine(engine: Engine, *requests: Request, steps: int = 10_000) -> dict[str, list[int]]:
    answers: dict[str, list[int]] = {each.request_id: [] for each in requests}
    for each in requests:
        engine.add(each)
    for _ in range(steps):
        if not engine.num_running:
            break
        outputs: list[SequenceOutput] = list(engine.step())
        assert not engine.take_failed()
        for output in outputs:
            answers[output.request_id] += output.token_ids
    return answers


def bracketed(start: int, end: int, **fields: Any) -> Thinking:
    fields.setdefault("starts_inside", True)
    return Thinking(
        start="[THINK]",
        end="[/THINK]",
        start_token_id=start,
        closing_token_ids=(end,),
        **fields,
    )


def warm(request_id: str = "r", **fields: Any) -> Request:
    sampling = {"temperature": 2.0, "seed": 3, "max_tokens": 120, **fields}
    return request(request_id, prompt_token_ids=[10, 20, 30], **sampling)


def test_the_embedded_engine_keeps_budgets_in_a_batch(engine: Engine, start: int, end: int):
    budgets = (0, 1, 7, None)
    answers = run_engine(
        engine,
        *(
            warm(str(budget), thinking=bracketed(start, end, budget=budget), ignore_eos=True)
            for budget in budgets
        ),
    )

    free = answers["None"]
    assert len(free) == 120
    for budget in (0, 1, 7):
        answer = answers[str(budget)]
        assert answer[: budget + 1] == [*free[:budget], end]
        assert len(answer) == 120


@pytest.mark.parametrize("budget", [0, 4])
def test_structure_comes_after_the_thinking(
    engine: Engine, tokenizer: Tokenizer, start: int, end: int, budget: int
):
    thinking = bracketed(start, end, budget=budget)
    answers = run_engine(
        engine,
        *(warm(f"{n}", thinking=thinking, structured_output=POINT, seed=n) for n in range(4)),
    )

    for answer in answers.values():
        place = answer.index(end)
        assert place <= budget
        assert not set(answer[:place]) & tokenizer.eog_token_ids
        text = b"".join(map(tokenizer.token_bytes, answer[place + 1 :])).decode()
        assert json.loads(text).keys() == {"x", "up"}


def test_a_structured_answer_may_begin_with_a_thought_and_need_not(
    engine: Engine, tokenizer: Tokenizer, start: int, end: int
):
    thinking = bracketed(start, end, starts_inside=False, budget=6)
    fields: dict[str, Any] = {"thinking": thinking, "structured_output": POINT}
    answers = run_engine(
        engine,
        warm("thinks", logit_bias={start: 100}, **fields),
        warm("does not", logit_bias={start: -100}, **fields),
    )

    thinks, does_not = answers["thinks"], answers["does not"]
    assert thinks[0] == start
    assert thinks.index(end) <= 7
    answered = thinks[thinks.index(end) + 1 :]
    for answer in (does_not, answered):
        text = b"".join(map(tokenizer.token_bytes, answer)).decode()
        assert json.loads(text).keys() == {"x", "up"}


@pytest.mark.parametrize("num_steps", [1, 4, 5, 6, 9])
def test_a_thought_that_is_interrupted_goes_on(
    engine: Engine, start: int, end: int, num_steps: int
):
    thinking = bracketed(start, end, budget=5)
    fields: dict[str, Any] = {"thinking": thinking, "structured_output": POINT}
    whole = run_engine(engine, warm(**fields))["r"]
    assert len(whole) > 12

    begun = run_engine(engine, warm(**fields), steps=num_steps)["r"]
    engine.preempt("r")
    [preempted] = engine.take_preempted()
    assert preempted.output_token_ids == begun == whole[:num_steps]
    assert run_engine(engine, preempted)["r"] == whole[num_steps:]

    resumed = warm("other", output_token_ids=begun, **fields)
    assert run_engine(engine, resumed)["other"] == whole[num_steps:]


def test_a_tag_of_several_tokens_is_found_and_forced(engine: Engine, tokenizer: Tokenizer):
    closing = tokenizer.encode("</think>", add_special=False, parse_special=True)
    thinking = Thinking(**TAGS, starts_inside=True, budget=3, closing_token_ids=tuple(closing))
    assert len(closing) > 1

    answer = run_engine(engine, warm(thinking=thinking, structured_output=POINT))["r"]

    text = b"".join(map(tokenizer.token_bytes, answer)).decode(errors="replace")
    thought, _, rest = text.partition("</think>")
    assert answer[3 : 3 + len(closing)] == closing
    assert thought
    assert json.loads(rest).keys() == {"x", "up"}
