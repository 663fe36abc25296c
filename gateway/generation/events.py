"""Events of an answer in progress, and the answer that they fold into."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from gateway.chat.finish import FinishReason, ToolCall
from gateway.chat.parsing.pieces import CallArguments, CallStart, Parser, Reasoning
from runtime.messages.request import TokenLogprobs
from runtime.text.thinking import ThinkingTracker


class PromptTokensDetails(Struct, frozen=True):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionTokensDetails(Struct, frozen=True):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Struct, frozen=True):
    """Tokens of a whole answer. A prompt counts once however many choices it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails

    def plus(self, other: "Usage") -> "Usage":
        """The tokens of two answers."""
        prompt, more = self.prompt_tokens_details, other.prompt_tokens_details
        answer, further = self.completion_tokens_details, other.completion_tokens_details
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
            PromptTokensDetails(prompt.cached_tokens + more.cached_tokens),
            CompletionTokensDetails(answer.reasoning_tokens + further.reasoning_tokens),
        )


class ChoiceStart(Struct, frozen=True, gc=False):
    """The first sign of a choice."""

    index: int


class TextDelta(Struct, frozen=True, gc=False):
    """More text of a choice; never empty."""

    index: int
    text: str


class TokensDelta(Struct, frozen=True, gc=False):
    """More tokens of a choice. Replaces TextDelta if the request wants token ids or
    log-probabilities. `text` is the text that the tokens complete; it may be empty. `logprobs` are
    as many as the tokens, or none if the request does not want them. Only the first token of an
    echoed prompt has None as its log-probabilities. `num_echoed` tokens are the prompt's: all or
    none."""

    index: int
    text: str
    token_ids: list[int]
    logprobs: Sequence[TokenLogprobs | None]
    num_echoed: int = 0


class PieceDelta(Struct, frozen=True, gc=False):
    """More of a choice that is not content (reasoning, tool calls). Emitted only with a parser."""

    index: int
    piece: Reasoning | CallStart | CallArguments


class ChoiceEnd(Struct, frozen=True, gc=False):
    """The choice is complete. `stop_reason` is the stop string, or the token of `stop_token_ids`,
    that ended it."""

    index: int
    finish_reason: FinishReason
    stop_reason: str | int | None = None


class AnswerEnd(Struct, frozen=True):
    """Every choice has ended."""

    usage: Usage


Event = ChoiceStart | TextDelta | TokensDelta | PieceDelta | ChoiceEnd | AnswerEnd


class Choice(Struct, frozen=True):
    """One finished choice. `token_ids` and `logprobs` are empty unless the request wants them;
    their first `num_echoed_tokens` entries are the prompt's. `prompt_logprobs` has one entry for
    each token of the prompt if the request wants them. `text` excludes the reasoning and the tool
    calls that a parser found."""

    index: int
    text: str
    finish_reason: FinishReason
    token_ids: Sequence[int] = ()
    logprobs: Sequence[TokenLogprobs | None] = ()
    num_echoed_tokens: int = 0
    reasoning: str = ""
    calls: Sequence[ToolCall] = ()
    stop_reason: str | int | None = None
    prompt_logprobs: Sequence[TokenLogprobs | None] = ()


class Answer(Struct, frozen=True):
    """A whole answer, choices by index."""

    choices: list[Choice]
    usage: Usage


class Echo(Struct, frozen=True):
    """The echoed prompt at the start of its choices: its text, and its tokens if they are
    scored."""

    text: str = ""
    token_ids: list[int] = []


NO_ECHO = Echo()


class OutputParsing(Struct, frozen=True):
    """How the text of a chat answer is parsed: a parser for each choice, the finish reason of a
    choice that stopped by itself and has a tool call, and a counter of reasoning tokens."""

    new_parser: Callable[[], Parser]
    finish_reason_of_calls: FinishReason = "tool_calls"
    new_tracker: Callable[[], ThinkingTracker] | None = None
