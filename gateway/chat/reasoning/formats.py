"""How model families show that they think, and which of them a model is."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from gateway.chat.parsing.chain import Chain
from gateway.chat.parsing.pieces import Parser
from gateway.chat.reasoning.tag_parser import TagParser
from gateway.chat.tools.dialects.harmony import HARMONY, HarmonyParser
from gateway.settings.schema import ReasoningParser

ReasoningState = Literal["inside", "over", "possible"]
"""Whether a prompt has opened a block of thinking, or ended it, or left it to the model."""


class ReasoningFormat(Struct, frozen=True, kw_only=True):
    """`start` and `end` stand around thinking. `marks` are texts that a chat template of the style
    has, all of them. `answer` begins what is said for good, where more than one block may come
    before it. `closing` ends the thinking when its budget is used up; "" is `end`. With
    `always_inside` the model thinks from its first token on, whatever the prompt shows."""

    start: str
    end: str
    marks: tuple[str, ...]
    answer: str = ""
    closing: str = ""
    always_inside: bool = False

    @property
    def has_channels(self) -> bool:
        """Whether answers are messages on channels, and not one block before the answer."""
        return bool(self.answer)

    @property
    def tags(self) -> tuple[str, ...]:
        """All texts that a parser looks for."""
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
"""Names as in vLLM, where it has the style. Templates are searched in this order; a style without
marks is only taken by its name."""


def find_format(name: ReasoningParser, chat_template: str | None) -> ReasoningFormat | None:
    """The style of that name; "auto" looks at the chat template. None: the model does not think."""
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
    """Where a rendered prompt leaves the model. `continued` is the text of the answer that the
    prompt ends with, if the model is to go on with one."""
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
    tells_channels: bool = False,
) -> Parser:
    """A parser for one choice. `calls` reads the calls in it; with `tells_channels` it knows
    messages on channels, and what is thought in them, by itself."""
    if not reasoning_format.has_channels:
        thought = TagParser(
            reasoning_format.start, reasoning_format.end, starts_inside=state == "inside"
        )
        return thought if calls is None else Chain(thought, calls)
    if calls is not None and tells_channels:
        return _begun(calls, reasoning_format, state)
    channels = _begun(HarmonyParser((), str, None), reasoning_format, state)
    return channels if calls is None else Chain(channels, calls)


def _begun(channels: Parser, reasoning_format: ReasoningFormat, state: ReasoningState) -> Parser:
    """It has read the head of the message that the prompt breaks off in."""
    heads = {"inside": reasoning_format.start, "over": reasoning_format.answer, "possible": ""}
    pieces = channels.feed(heads[state])
    assert not pieces, "a head says nothing: this is a bug"
    return channels


def _channel_opening(reasoning_format: ReasoningFormat, prompt: str) -> ReasoningState:
    """The channel of the message that the prompt breaks off in."""
    _, _, begun = prompt.rpartition(_ASSISTANT)
    if reasoning_format.end in begun:
        return "possible"
    if reasoning_format.start in begun:
        return "inside"
    return "over" if reasoning_format.answer in begun else "possible"
