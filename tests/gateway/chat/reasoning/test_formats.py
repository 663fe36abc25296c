"""What a model thought, told from what it says: every style, however the text is cut."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.parsing.chain import WithoutReasoning
from gateway.chat.parsing.pieces import CallArguments, CallStart, Content, Parser, Piece, Reasoning
from gateway.chat.reasoning.formats import FORMATS, find_format, find_reasoning_state, new_parser
from gateway.chat.reasoning.tag_parser import TagParser
from gateway.chat.tools.dialects.harmony import HarmonyParser
from gateway.chat.tools.dialects.hermes import HERMES
from gateway.settings.schema import ReasoningParser
from tests.kit.chat.cuts import cut, places, read

TAG_STYLES = [
    name for name, reasoning_format in FORMATS.items() if not reasoning_format.has_channels
]
WORDS = st.text(alphabet="ab <>/[]|\n", max_size=12)


def channels() -> Parser:
    """A parser that knows one function."""
    return HarmonyParser({"look"}, lambda: "id", None)


def test_the_setting_has_the_styles():
    assert set(get_args(ReasoningParser)) == {"auto", "none", *FORMATS}


@pytest.mark.parametrize("name", TAG_STYLES)
@given(thought=WORDS, content=WORDS, places=places)
def test_a_block_is_told_from_the_answer_however_it_is_cut(
    name: str, thought: str, content: str, places: list[int]
):
    reasoning_format = FORMATS[name]
    text = f"{reasoning_format.start}\n{thought}\n{reasoning_format.end}\n\n{content}"
    expected: list[Piece] = []
    if thought.strip():
        expected.append(Reasoning(thought.strip()))
    if content.lstrip("\n"):
        expected.append(Content(content.lstrip("\n")))
    if reasoning_format.end in f"{thought}\n{reasoning_format.end}"[:-1]:
        return  # the random words have made a tag

    assert (
        read(TagParser(reasoning_format.start, reasoning_format.end), cut(text, places)) == expected
    )
    inside = text.removeprefix(reasoning_format.start)
    parser = TagParser(reasoning_format.start, reasoning_format.end, starts_inside=True)
    assert read(parser, cut(inside, places)) == expected


@given(
    parts=st.lists(st.sampled_from(["<think>", "</think>", "<thi", "nk>", "</", " ", "\n", "a b"])),
    places=places,
    starts_inside=st.booleans(),
)
def test_streamed_is_whole_for_any_text(parts: list[str], places: list[int], starts_inside: bool):
    text = "".join(parts)

    whole = read(TagParser("<think>", "</think>", starts_inside=starts_inside), [text])
    pieces = cut(text, places)

    assert read(TagParser("<think>", "</think>", starts_inside=starts_inside), pieces) == whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Hello", [Content("Hello")]),
        ("  Hello <think> no </think>", [Content("  Hello <think> no </think>")]),
        ("<think>\n\n</think>\n\nHello", [Content("Hello")]),
        ("</think>\n\nHello", [Content("Hello")]),
        ("\n<think>why</think>Hello", [Reasoning("why"), Content("Hello")]),
        ("<think>why <b> </thin", [Reasoning("why <b> </thin")]),
        ("<think>why\n\n", [Reasoning("why")]),
        ("<think>a</think>  b </think> c", [Reasoning("a"), Content("  b </think> c")]),
    ],
)
def test_blocks_that_are_empty_missing_or_open(text: str, expected: list[Piece]):
    assert read(TagParser("<think>", "</think>"), [text]) == expected
    assert read(TagParser("<think>", "</think>"), text) == expected


HARMONY = (
    "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>commentary"
    "<|message|>One moment.<|end|><|start|>assistant<|channel|>commentary to=functions.look"
    ' <|constrain|>json<|message|>{"at": "<sky>"}<|end|><|start|>assistant<|channel|>analysis'
    "<|message|>Blue.<|end|><|start|>assistant<|channel|>final<|message|>It is blue."
)
HARMONY_PIECES = [
    Reasoning("Let me see."),
    Content("One moment."),
    CallStart(0, "id", "look"),
    CallArguments(0, '{"at": "<sky>"}'),
    Reasoning("Blue."),
    Content("It is blue."),
]


@given(places=places)
def test_channels_are_told_apart_however_they_are_cut(places: list[int]):
    assert read(channels(), cut(HARMONY, places)) == HARMONY_PIECES


def test_channels_character_by_character_and_cut_short_anywhere():
    assert read(channels(), HARMONY) == HARMONY_PIECES
    for end in range(len(HARMONY)):
        pieces = read(channels(), [HARMONY[:end]])
        shown = "".join(piece.text for piece in pieces if isinstance(piece, Content))
        assert "One moment.It is blue.".startswith(shown.removesuffix("<"))


def test_text_without_a_channel_is_for_the_reader():
    assert read(channels(), "Hello there") == [Content("Hello there")]
    inside = new_parser(FORMATS["openai_gptoss"], "inside")
    rest = "more<|end|><|start|>assistant<|channel|>final<|message|>so"
    assert read(inside, rest) == [Reasoning("more"), Content("so")]
    over = new_parser(FORMATS["openai_gptoss"], "over")
    assert read(over, " and so") == [Content(" and so")]


def test_reasoning_can_be_left_out():
    parser = WithoutReasoning(TagParser("<think>", "</think>"))
    assert read(parser, "<think>why</think>Hello") == [Content("Hello")]
    assert read(WithoutReasoning(TagParser("<a>", "</a>")), "<a>why ") == []


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ content.split('</think>')[-1] }}", "qwen3"),
        ("{{- '<|channel|>analysis<|message|>' }}", "openai_gptoss"),
        ("[THINK]{{ thinking }}[/THINK]", "mistral"),
        ("<|channel>thought\n<channel|>", "gemma4"),
        ("plain", None),
        (None, None),
    ],
)
def test_the_style_is_found_in_the_template(template: str | None, name: str | None):
    expected = None if name is None else FORMATS[name]
    assert find_format("auto", template) == expected
    assert find_format("none", template) is None
    assert find_format("deepseek_r1", template) == FORMATS["deepseek_r1"]


@pytest.mark.parametrize(
    ("reasoning_format", "prompt", "continued", "opening"),
    [
        ("qwen3", "user: what is <think>?\nassistant:", None, "possible"),
        ("qwen3", "assistant: <think>\n", None, "inside"),
        ("qwen3", "assistant: <think>\n\n</think>\n\n", None, "over"),
        ("qwen3", "assistant: <think>so far", "<think>so far", "inside"),
        ("qwen3", "assistant: so far", "so far", "over"),
        ("deepseek_r1", "assistant:", None, "inside"),
        ("deepseek_r1", "assistant: <think></think>", None, "over"),
        ("openai_gptoss", "hi<|end|><|start|>assistant", None, "possible"),
        ("openai_gptoss", "<|start|>assistant<|channel|>final<|message|>so", "so", "over"),
        ("openai_gptoss", "<|start|>assistant<|channel|>analysis<|message|>so", "so", "inside"),
    ],
)
def test_where_a_prompt_leaves_the_model(
    reasoning_format: str, prompt: str, continued: str | None, opening: str
):
    assert find_reasoning_state(FORMATS[reasoning_format], prompt, continued) == opening


def test_a_parser_begins_where_the_prompt_ends():
    for name, reasoning_format in FORMATS.items():
        thought = f"why{reasoning_format.closing or reasoning_format.end}so"
        pieces = read(new_parser(reasoning_format, "inside"), thought)
        assert pieces == [Reasoning("why"), Content("so")], name


@given(places=places)
def test_a_parser_of_channels_reads_the_calls_by_itself(places: list[int]):
    reasoning_format = FORMATS["openai_gptoss"]
    for opening, head in (("possible", ""), ("inside", reasoning_format.start)):
        parser = new_parser(reasoning_format, opening, channels(), parses_channels=True)  # type: ignore[arg-type]
        assert read(parser, cut(HARMONY.removeprefix(head), places)) == HARMONY_PIECES


@given(places=places)
def test_calls_are_looked_for_behind_the_thought(places: list[int]):
    call = '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>'
    for reasoning_format in (FORMATS["qwen3"], FORMATS["mistral"]):
        text = f"{reasoning_format.start}I say {call}!{reasoning_format.end}\n\nLet me see. {call}"
        calls = HERMES.new_parser(names={"look"}, new_id=lambda: "id", max_calls=None)
        assert read(new_parser(reasoning_format, "possible", calls), cut(text, places)) == [
            Reasoning(f"I say {call}!"),
            Content("Let me see."),
            CallStart(0, "id", "look"),
            CallArguments(0, '{"at": "sky"}'),
        ]
