"""Whether and how long a model reasons before it answers. Pure.

A client's wish becomes variables of the chat template, and a `Thinking` for the engine
(docs/reasoning.md).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, get_args

import msgspec
from msgspec import Struct

from gateway.chat.reasoning.formats import ReasoningFormat, ReasoningState, find_reasoning_state
from gateway.chat.reasoning.wish import ReasoningEffort, ReasoningWish
from gateway.chat.template.template import ChatTemplate
from runtime.errors import InvalidRequest
from runtime.messages.request import Thinking
from runtime.text.detokenizer import spell
from runtime.text.thinking import ThinkingTracker
from runtime.tokenizers.tokenizer import Tokenizer

EFFORT_BUDGETS: Mapping[ReasoningEffort, int] = {
    "none": 0,
    "minimal": 0,
    "low": 1024,
    "medium": 8192,
}
"""Reasoning budgets in tokens, for templates that cannot pass the effort to the model. An effort
that is missing here has no limit. 1024 and 8192 are the budgets of Google's OpenAI endpoint."""

EFFORTS: tuple[ReasoningEffort, ...] = get_args(ReasoningEffort)
"""In ascending order."""

CHANNEL_EFFORTS: tuple[ReasoningEffort, ...] = ("low", "medium", "high")
"""gpt-oss was trained on these efforts only; its template accepts any value."""

SWITCHES = ("enable_thinking", "thinking")
"""Template variables that turn reasoning on and off."""


class TemplateControls(Struct, frozen=True):
    """How a chat template reacts to reasoning settings. `switches` are the variables that turn
    reasoning on and off. `efforts` are the values of `reasoning_effort` that the template accepts.
    Each is empty if it makes no difference to the prompt."""

    switches: tuple[str, ...] = ()
    efforts: tuple[ReasoningEffort, ...] = ()


def template_controls(
    template: ChatTemplate, reasoning_format: ReasoningFormat | None
) -> TemplateControls:
    """Renders trial prompts and compares them."""
    switches = [
        name
        for name in SWITCHES
        if _differ(template.probe(**{name: value}) for value in (False, True))
    ]
    prompts = {effort: template.probe(reasoning_effort=effort) for effort in EFFORTS}
    taken = tuple(effort for effort, prompt in prompts.items() if prompt is not None)
    if not _differ(prompts[effort] for effort in taken):
        taken = ()
    elif reasoning_format is not None and reasoning_format.has_channels:
        taken = CHANNEL_EFFORTS
    return TemplateControls(tuple(switches), taken)


def _differ(prompts: Iterable[str | None]) -> bool:
    return len(set(prompts)) > 1


class Reasoner:
    """The reasoning of one model: its format, and the parts that depend on the vocabulary.

    `budget_message` is inserted before the end tag when the reasoning budget is used up.
    """

    def __init__(
        self, reasoning_format: ReasoningFormat, tokenizer: Tokenizer, budget_message: str = ""
    ) -> None:
        self.reasoning_format = reasoning_format
        self._tokenizer = tokenizer
        start = self._encode(reasoning_format.start)
        closing = budget_message + (reasoning_format.closing or reasoning_format.end)
        self._thinking = Thinking(
            start=reasoning_format.start,
            end=reasoning_format.end,
            answer=reasoning_format.answer,
            repeats=reasoning_format.has_channels,
            start_token_id=start[0] if len(start) == 1 else None,
            closing_token_ids=tuple(self._encode(closing)),
        )
        tags = {token_id for tag in reasoning_format.tags for token_id in self._encode(tag)}
        self.shown_token_ids = tuple(sorted(each for each in tags if self._is_hidden(each)))

    def thinking(self, state: ReasoningState, budget: int | None) -> Thinking:
        """The engine's parameters for an answer that begins in `state`."""
        return msgspec.structs.replace(
            self._thinking, starts_inside=state == "inside", budget=budget
        )

    def new_tracker(self, state: ReasoningState) -> ThinkingTracker:
        """A counter of reasoning tokens."""
        return ThinkingTracker(self.thinking(state, None), partial(spell, self._tokenizer))

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special=False, parse_special=True)

    def _is_hidden(self, token_id: int) -> bool:
        return not self._tokenizer.token_bytes(token_id)


class ThinkingPlan(Struct, frozen=True):
    """A request's reasoning settings. `variables` are for the chat template. A `budget` of None
    means no limit. `unused` are the request parameters that this model can do nothing with."""

    variables: Mapping[str, Any] = {}
    budget: int | None = None
    unused: tuple[str, ...] = ()


class PreparedThinking(Struct, frozen=True):
    """The reasoning of the answers to one prompt: its format, and its state at the end of the
    prompt. `thinking` is None if the prompt has ended the reasoning. `shown_token_ids` are for
    `SamplingParams`."""

    reasoning_format: ReasoningFormat
    state: ReasoningState
    thinking: Thinking | None
    shown_token_ids: tuple[int, ...]
    new_tracker: Callable[[], ThinkingTracker]


def plan_thinking(
    wish: ReasoningWish,
    reasoning_format: ReasoningFormat | None,
    controls: TemplateControls,
    default_budget: int | None,
) -> ThinkingPlan:
    """Raises InvalidRequest if the client sets a budget and the model does not reason. An effort is
    a hint, which such a model does not need to heed.

    The client's own budget takes precedence over its effort's budget, and that one over the
    default.
    """
    if reasoning_format is None and wish.budget is not None:
        _refuse("thinking_token_budget")
    effort = "none" if wish.is_on is False else wish.effort
    variables = {} if effort is None else _variables(effort, controls)
    if wish.is_on:
        variables |= dict.fromkeys(controls.switches, True)
    budget = default_budget
    if wish.budget is not None:
        budget = wish.budget
    elif effort is not None and not _expresses(variables, effort):
        budget = EFFORT_BUDGETS.get(effort)
    is_unused = reasoning_format is None and not variables
    return ThinkingPlan(variables, budget, _asked_params(wish) if is_unused else ())


def prepare_thinking(
    reasoner: Reasoner, prompt: str, continued_text: str | None, budget: int | None
) -> PreparedThinking:
    """`prompt` is the rendered text that the answers follow. It ends with `continued_text` if the
    model is to continue an answer; None if it starts a new one."""
    reasoning_format = reasoner.reasoning_format
    state = find_reasoning_state(reasoning_format, prompt, continued_text)
    return PreparedThinking(
        reasoning_format,
        state,
        None if state == "over" else reasoner.thinking(state, budget),
        reasoner.shown_token_ids,
        partial(reasoner.new_tracker, state),
    )


def _asked_params(wish: ReasoningWish) -> tuple[str, ...]:
    """The request parameters that ask for reasoning."""
    effort = () if wish.effort in (None, "none") else (wish.effort_param,)
    return (*effort, "enable_thinking") if wish.is_on else effort


def _variables(effort: ReasoningEffort, controls: TemplateControls) -> dict[str, Any]:
    """The template variables for this effort, among those that the template reacts to."""
    variables: dict[str, Any] = dict.fromkeys(controls.switches, effort not in ("none", "minimal"))
    if controls.efforts:
        variables["reasoning_effort"] = _nearest(effort, controls.efforts)
    return variables


def _nearest(effort: ReasoningEffort, known: Sequence[ReasoningEffort]) -> ReasoningEffort:
    """The nearest known effort; the greater one of two that are equally near."""
    place = EFFORTS.index(effort)
    return min(reversed(known), key=lambda each: abs(EFFORTS.index(each) - place))


def _expresses(variables: Mapping[str, Any], effort: ReasoningEffort) -> bool:
    """Whether the template variables express the effort, so that no budget is needed."""
    shown = variables.get("reasoning_effort")
    is_switched_off = any(variables.get(switch) is False for switch in SWITCHES)
    return is_switched_off or shown == effort or (shown is not None and effort != "none")


def _refuse(param: str) -> NoReturn:
    raise InvalidRequest(
        f"`{param}` is for models that think before they answer. This one does not, as far as its"
        " chat template shows; the setting model.reasoning_parser can say otherwise. Leave it out.",
        param=param,
        code="unsupported_parameter",
    )
