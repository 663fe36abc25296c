"""The reasoning formats of model families, and the detection of a model's format."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from gateway.chat.parsing.chain import Chain
from gateway.chat.parsing.pieces import Parser
from gateway.chat.reasoning.tag_parser import TagParser
from gateway.chat.tools.dialects.harmony import HARMONY, HarmonyParser
from gateway.settings.schema import ReasoningParser

ReasoningState = Literal["inside", "over", "possible"]
"""Whether the prompt has opened a reasoning block, ended it, or left it to the model."""


class ReasoningFormat(Struct, frozen=True, kw_only=True):
    """`start` and `end` enclose the reasoning. `marks` are texts that a chat template of this
    format contains, all of them. `answer` begins the final answer in formats that allow several
    blocks before it. `closing` ends the reasoning when its budget is used up; "" means `end`. With
    `always_inside` the model reasons from its first token on, whatever the prompt shows."""

    start: str
    end: str
    marks: tuple[str, ...]
    answer: str = ""
    closing: str = ""
    always_inside: bool = False

    @property
    def has_channels(self) -> bool:
        """Whether answers are messages on channels, rather than one reasoning block before the
        answer."""
        return bool(self.answer)

    @property
    def tags(self) -> tuple[str, ...]:
        """All texts that a parser searches for."""
        if not self.has_channels:
            return (self.start, self.end)
        return (self.start, self.answer, *HARMONY.marks)


_FINAL = "<|channel|>final<|message|>"
_ASSISTANT = "<|start|>assistant"

FORMATS: Mapping[str, ReasoningFormat] = {
    "openai_gptoss": ReasoningFormat(
        start="<|channel|>analysis<|message|>",
        end="<|end|>",
        marks=("<|channel|>", "<|message|>"),
        answer=_FINAL,
        closing=f"<|end|>{_ASSISTANT}{_FINAL}",
    ),
    "gemma4": ReasoningFormat(
        start="<|channel>thought", end="<channel|>", marks=("<|channel>", "<channel|>")
    ),
    "mistral": ReasoningFormat(start="[THINK]", end="[/THINK]", marks=("[THINK]", "[/THINK]")),
    "seed_oss": ReasoningFormat(
        start="<seed:think>", end="</seed:think>", marks=("</seed:think>",)
    ),
    "kimi": ReasoningFormat(start="◁think▷", end="◁/think▷", marks=("◁/think▷",)),
    "qwen3": ReasoningFormat(start="<think>", end="</think>", marks=("</think>",)),
    "deepseek_r1": ReasoningFormat(start="<think>", end="</think>", marks=(), always_inside=True),
    "exaone": ReasoningFormat(start="<thought>", end="</thought>", marks=("</thought>",)),
    "granite": ReasoningFormat(
        start="Here is my thought process:",
        end="Here is my response:",
        marks=("Here is my thought process", "Here is my response"),
    ),
}
"""The names are vLLM's if vLLM has the format. Templates are matched in this order; a format
without marks is selected only by its name."""


def find_format(name: ReasoningParser, chat_template: str | None) -> ReasoningFormat | None:
    """The format of that name; "auto" inspects the chat template. None: the model does not
    reason."""
    if name == "none":
        return None
    if name != "auto":
        return FORMATS[name]
    source = chat_template or ""
    found = (
        reasoning_format
        for reasoning_format in FORMATS.values()
        if reasoning_format.marks and all(mark in source for mark in reasoning_format.marks)
    )
    return next(found, None)


def find_reasoning_state(
    reasoning_format: ReasoningFormat, prompt: str, continued: str | None
) -> ReasoningState:
    """The reasoning state at the end of a rendered prompt. `continued` is the partial answer at the
    end of the prompt, if the model is to continue one."""
    if reasoning_format.has_channels:
        return _channel_opening(reasoning_format, prompt)
    text = prompt.rstrip()
    if text.endswith(reasoning_format.start):
        return "inside"
    if text.endswith(reasoning_format.end):
        return "over"
    if continued is not None:
        is_open = continued.rfind(reasoning_format.start) > continued.rfind(reasoning_format.end)
        return "inside" if is_open else "over"
    return "inside" if reasoning_format.always_inside else "possible"


def new_parser(
    reasoning_format: ReasoningFormat,
    state: ReasoningState,
    calls: Parser | None = None,
    *,
    parses_channels: bool = False,
) -> Parser:
    """A parser for one choice. `calls` parses its tool calls. With `parses_channels`, `calls` also
    parses messages on channels and the reasoning in them."""
    if not reasoning_format.has_channels:
        thought = TagParser(
            reasoning_format.start, reasoning_format.end, starts_inside=state == "inside"
        )
        return thought if calls is None else Chain(thought, calls)
    if calls is not None and parses_channels:
        return _begun(calls, reasoning_format, state)
    channels = _begun(HarmonyParser((), str, None), reasoning_format, state)
    return channels if calls is None else Chain(channels, calls)


def _begun(channels: Parser, reasoning_format: ReasoningFormat, state: ReasoningState) -> Parser:
    """Feeds the parser the message head that the prompt ends with."""
    heads = {"inside": reasoning_format.start, "over": reasoning_format.answer, "possible": ""}
    pieces = channels.feed(heads[state])
    assert not pieces, "a head says nothing: this is a bug"
    return channels


def _channel_opening(reasoning_format: ReasoningFormat, prompt: str) -> ReasoningState:
    """The state that follows from the channel of the message at the end of the prompt."""
    _, _, begun = prompt.rpartition(_ASSISTANT)
    if reasoning_format.end in begun:
        return "possible"
    if reasoning_format.start in begun:
        return "inside"
    return "over" if reasoning_format.answer in begun else "possible"
