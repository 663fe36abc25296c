"""Whether and how long a model thinks before it answers. Pure.

What a request says about it (`reasoning_effort`, `thinking_token_budget`, `include_reasoning`)
becomes variables of the chat template, and a `Thinking` for the engine (docs/reasoning.md).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, get_args

import msgspec
from msgspec import Struct

from gateway.api.openai.protocol.requests import ChatCompletionRequest
from gateway.chat.conversation import AssistantMessage, ReasoningEffort
from gateway.chat.reasoning.formats import ReasoningFormat, ReasoningState, find_reasoning_state
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
"""Tokens that a model may think where its template cannot tell it how much to; what is missing has
no limit. 1024 and 8192 are what Google's OpenAI endpoint means by these words."""

EFFORTS: tuple[ReasoningEffort, ...] = get_args(ReasoningEffort)
"""From the least to the most."""

CHANNEL_EFFORTS: tuple[ReasoningEffort, ...] = ("low", "medium", "high")
"""gpt-oss was trained on these alone; its template writes whatever it is given."""

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which templates turn thinking on and off."""


class TemplateControls(Struct, frozen=True):
    """What a chat template does when it is told how much to think. `switches` are the variables
    that turn thinking on and off, `efforts` the values of `reasoning_effort` that it takes; both
    are empty where they make no difference."""

    switches: tuple[str, ...] = ()
    efforts: tuple[ReasoningEffort, ...] = ()


def template_controls(
    template: ChatTemplate, reasoning_format: ReasoningFormat | None
) -> TemplateControls:
    """Found out by trying."""
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
    """How one model thinks: its style, and what of it depends on its vocabulary.

    `budget_message` is said before thinking is ended whose budget is used up.
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
        """For the engine, of an answer that begins so."""
        return msgspec.structs.replace(
            self._thinking, starts_inside=state == "inside", budget=budget
        )

    def new_tracker(self, state: ReasoningState) -> ThinkingTracker:
        """Counts the tokens of thoughts."""
        return ThinkingTracker(self.thinking(state, None), partial(spell, self._tokenizer))

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special=False, parse_special=True)

    def _is_hidden(self, token_id: int) -> bool:
        return not self._tokenizer.token_bytes(token_id)


class ThinkingPlan(Struct, frozen=True):
    """What a request wants of a model's thinking. `variables` are for its chat template; `budget`
    is None without a limit."""

    variables: Mapping[str, Any] = {}
    budget: int | None = None


class PreparedThinking(Struct, frozen=True):
    """How the answers to one prompt think: in what style, and where the prompt leaves them.
    `thinking` is None where the prompt has ended it. `shown_token_ids` are for
    `SamplingParams`."""

    reasoning_format: ReasoningFormat
    state: ReasoningState
    thinking: Thinking | None
    shown_token_ids: tuple[int, ...]
    new_tracker: Callable[[], ThinkingTracker]


def plan_thinking(
    data: ChatCompletionRequest,
    reasoning_format: ReasoningFormat | None,
    controls: TemplateControls,
    default_budget: int | None,
) -> ThinkingPlan:
    """Raises InvalidRequest for what a model that does not think cannot do.

    A budget of the request's own goes before that of its effort, and this before the default.
    """
    if reasoning_format is None and data.thinking_token_budget is not None:
        _refuse("thinking_token_budget")
    effort = data.reasoning_effort
    variables = {} if effort is None else _variables(effort, controls)
    if reasoning_format is None and effort not in (None, "none") and not variables:
        _refuse("reasoning_effort")
    budget = default_budget
    if data.thinking_token_budget is not None:
        budget = data.thinking_token_budget
    elif effort is not None and not _is_told(effort, variables):
        budget = EFFORT_BUDGETS.get(effort)
    return ThinkingPlan({**variables, **(data.chat_template_kwargs or {})}, budget)


def prepare_thinking(
    data: ChatCompletionRequest, reasoner: Reasoner, prompt: str, budget: int | None
) -> PreparedThinking:
    """`prompt` is the rendered text that the answers follow."""
    reasoning_format = reasoner.reasoning_format
    state = find_reasoning_state(reasoning_format, prompt, _continued(data))
    return PreparedThinking(
        reasoning_format,
        state,
        None if state == "over" else reasoner.thinking(state, budget),
        reasoner.shown_token_ids,
        partial(reasoner.new_tracker, state),
    )


def _variables(effort: ReasoningEffort, controls: TemplateControls) -> dict[str, Any]:
    """What says this effort to a chat template that listens."""
    variables: dict[str, Any] = dict.fromkeys(controls.switches, effort not in ("none", "minimal"))
    if controls.efforts:
        variables["reasoning_effort"] = _nearest(effort, controls.efforts)
    return variables


def _nearest(effort: ReasoningEffort, known: Sequence[ReasoningEffort]) -> ReasoningEffort:
    """Of two that are equally near, the greater one."""
    place = EFFORTS.index(effort)
    return min(reversed(known), key=lambda each: abs(EFFORTS.index(each) - place))


def _is_told(effort: ReasoningEffort, variables: Mapping[str, Any]) -> bool:
    """Whether the template says all that there is to an effort."""
    told = variables.get("reasoning_effort")
    is_switched_off = any(variables.get(switch) is False for switch in SWITCHES)
    return is_switched_off or told == effort or (told is not None and effort != "none")


def _continued(data: ChatCompletionRequest) -> str | None:
    """The text of the answer that the model is to go on with."""
    last = data.messages[-1]
    if not data.continue_final_message or not isinstance(last, AssistantMessage):
        return None
    return last.content if isinstance(last.content, str) else ""


def _refuse(param: str) -> NoReturn:
    raise InvalidRequest(
        f"`{param}` is for models that think before they answer. This one does not, as far as its"
        " chat template shows; the setting model.reasoning_parser can say otherwise. Leave it out.",
        param=param,
        code="unsupported_parameter",
    )
