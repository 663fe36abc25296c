"""Folds engine deltas into an answer: the same events make the stream and the whole answer."""

from collections.abc import Sequence

import msgspec

from gateway.chat.finish import FinishReason, ToolCall
from gateway.chat.parsing.pieces import (
    CallArguments,
    CallLoop,
    CallStart,
    Content,
    Parser,
    Reasoning,
)
from gateway.generation.events import (
    NO_ECHO,
    Answer,
    AnswerEnd,
    Choice,
    ChoiceEnd,
    ChoiceStart,
    CompletionTokensDetails,
    Echo,
    Event,
    OutputParsing,
    PieceDelta,
    PromptTokensDetails,
    TextDelta,
    TokensDelta,
    Usage,
)
from runtime.messages.request import RequestOutput, TokenLogprobs


class _Call:
    """A tool call as parsed so far."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self, start: CallStart) -> None:
        self.id = start.id
        self.name = start.name
        self.arguments: list[str] = []


class _ChoiceState:
    __slots__ = (
        *("calls", "echo", "finish_reason", "has_tokens", "index", "logprobs", "loops"),
        *("num_cached_tokens", "num_echoed_tokens", "parser", "pieces", "prompt_logprobs"),
        *("reasoning", "started", "stop_reason", "token_ids", "tracker"),
    )

    def __init__(self, index: int, echo: Echo, parsing: OutputParsing | None) -> None:
        self.index = index
        self.echo = echo
        self.parser = None if parsing is None else parsing.new_parser()
        new_tracker = None if parsing is None else parsing.new_tracker
        self.tracker = None if new_tracker is None else new_tracker()
        self.stop_reason: str | int | None = None
        self.reasoning: list[str] = []
        self.calls: list[_Call] = []
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprobs | None] = []
        self.prompt_logprobs: Sequence[TokenLogprobs | None] = ()
        self.num_echoed_tokens = 0
        self.pieces: list[str] = []
        self.started = False
        self.loops = False
        self.has_tokens = False
        self.num_cached_tokens = 0
        self.finish_reason: FinishReason | None = None


class Assembler:
    """Folds the deltas of one answer.

    `request_ids` are the engine's requests, one per choice. Each of the `len(prompt_lengths)`
    prompts has the same number of choices, so choice i belongs to prompt i // choices-per-prompt.
    `echoes` are the texts that each prompt's choices begin with. With `reports_tokens` the text
    comes with its token ids even if the engine gives no log-probabilities.

    The events of a choice are ChoiceStart, TextDelta* or TokensDelta*, ChoiceEnd; AnswerEnd is the
    last event of all. With a `parsing`, PieceDeltas come among them; the tokens of a piece are
    emitted before the piece. The concatenated text, the tokens and the pieces do not depend on how
    the deltas were cut.

    `num_completion_tokens` counts the tokens received so far; `num_first_tokens` of them were the
    first token of their choice. `num_prompt_tokens` counts the tokens of the prompts whose answer
    has begun. `seconds_queued` is the time from the arrival until the engine admitted the first
    request; None until the engine reports it.
    """

    def __init__(
        self,
        request_ids: Sequence[str],
        prompt_lengths: Sequence[int],
        echoes: Sequence[Echo] = (),
        parsing: OutputParsing | None = None,
        *,
        reports_tokens: bool = False,
    ) -> None:
        self._parsing = parsing
        self._reports_tokens = reports_tokens
        self._per_prompt = len(request_ids) // len(prompt_lengths)
        self._prompt_lengths = prompt_lengths
        self._choices = {
            request_id: _ChoiceState(
                index,
                echoes[index // self._per_prompt] if echoes else NO_ECHO,
                parsing,
            )
            for index, request_id in enumerate(request_ids)
        }
        self._num_unfinished = len(request_ids)
        self._usage: Usage | None = None
        self._begun: set[int] = set()
        self._looping: list[str] = []
        self.num_choices = len(request_ids)
        self.num_completion_tokens = 0
        self.num_first_tokens = 0
        self.num_prompt_tokens = 0
        self.seconds_queued: float | None = None

    @property
    def is_finished(self) -> bool:
        return self._num_unfinished == 0

    @property
    def finish_reasons(self) -> list[FinishReason]:
        """The finish reasons of the choices that have ended."""
        reasons = (choice.finish_reason for choice in self._choices.values())
        return [reason for reason in reasons if reason is not None]

    def push(self, outputs: Sequence[RequestOutput]) -> list[Event]:
        """Takes deltas in order of arrival and returns the events that they make."""
        events: list[Event] = []
        for output in outputs:
            choice = self._choices[output.request_id]
            if choice.finish_reason is not None:
                continue
            self.num_completion_tokens += len(output.token_ids)
            if output.token_ids and not choice.has_tokens:
                choice.has_tokens = True
                self.num_first_tokens += 1
            if choice.tracker is not None:
                choice.tracker.push_all(output.token_ids)
            if output.num_cached_tokens > choice.num_cached_tokens:
                choice.num_cached_tokens = output.num_cached_tokens
            text = output.text
            if not choice.started:
                choice.started = True
                self._begin(choice.index // self._per_prompt, output)
                events.append(ChoiceStart(choice.index))
                text = self._start(choice, output, events)
            has_tokens = self._reports_tokens or output.logprobs is not None
            if choice.parser is not None:
                _read(choice, choice.parser, text, output, events, has_tokens=has_tokens)
            elif has_tokens:
                _emit(choice, text, output.token_ids, output.logprobs or (), events)
            elif text:
                choice.pieces.append(text)
                events.append(TextDelta(choice.index, text))
            if choice.loops:
                self._looping.append(output.request_id)
                self._end(choice, "stop", events)
            elif output.finish_reason is not None:
                choice.stop_reason = output.stop_reason
                self._end(choice, output.finish_reason, events)
        return events

    def take_looping(self) -> list[str]:
        """The requests whose choices ended since the last call because they repeat their tool
        calls. The engine still runs them, unless they have ended by themselves in the meantime."""
        looping, self._looping = self._looping, []
        return looping

    def usage_so_far(self) -> Usage:
        """Tokens of the whole answer so far."""
        return self._total()

    @property
    def usage(self) -> Usage:
        """Tokens of the whole answer. Every choice must have ended."""
        assert self._usage is not None, "usage before the end: this is a bug"
        return self._usage

    def result(self) -> Answer:
        """The whole answer. Every choice must have ended."""
        choices = []
        for choice in self._choices.values():
            assert choice.finish_reason is not None, "result() before the end: this is a bug"
            choices.append(
                Choice(
                    choice.index,
                    "".join(choice.pieces),
                    choice.finish_reason,
                    choice.token_ids,
                    choice.logprobs,
                    choice.num_echoed_tokens,
                    "".join(choice.reasoning),
                    [
                        ToolCall(call.id, call.name, "".join(call.arguments))
                        for call in choice.calls
                    ],
                    choice.stop_reason,
                    choice.prompt_logprobs,
                )
            )
        return Answer(choices, self.usage)

    def _begin(self, prompt: int, output: RequestOutput) -> None:
        """The first sign of a choice: account for its prompt."""
        if prompt not in self._begun:
            self._begun.add(prompt)
            self.num_prompt_tokens += self._prompt_lengths[prompt]
        if output.seconds_queued is not None:
            first = output.seconds_queued if self.seconds_queued is None else self.seconds_queued
            self.seconds_queued = min(first, output.seconds_queued)

    def _start(self, choice: _ChoiceState, output: RequestOutput, events: list[Event]) -> str:
        """Returns the text of a choice's first delta. A scored echo is emitted before it as its own
        event."""
        echo = choice.echo
        choice.prompt_logprobs = output.prompt_logprobs or ()
        if output.prompt_logprobs is None or not echo.token_ids:
            return echo.text + output.text
        choice.num_echoed_tokens = len(echo.token_ids)
        _emit(
            choice,
            echo.text,
            echo.token_ids,
            output.prompt_logprobs,
            events,
            num_echoed=len(echo.token_ids),
        )
        return output.text

    def _end(self, choice: _ChoiceState, reason: FinishReason, events: list[Event]) -> None:
        assert choice.finish_reason is None, "a choice ended twice: this is a bug"
        if reason == "stop" and _has_whole_calls(choice) and self._parsing is not None:
            reason = self._parsing.finish_reason_of_calls
        choice.finish_reason = reason
        self._num_unfinished -= 1
        events.append(ChoiceEnd(choice.index, reason, choice.stop_reason))
        if self._num_unfinished == 0:
            self._usage = self._total()
            events.append(AnswerEnd(self._usage))

    def _num_reasoning_tokens(self) -> int:
        trackers = (choice.tracker for choice in self._choices.values())
        return sum(tracker.num_reasoning_tokens for tracker in trackers if tracker is not None)

    def _total(self) -> Usage:
        prompt_tokens = sum(self._prompt_lengths)
        first_choices = list(self._choices.values())[:: self._per_prompt]
        cached_tokens = sum(
            min(choice.num_cached_tokens, prompt_length)  # a resumed request may have more cached
            for choice, prompt_length in zip(first_choices, self._prompt_lengths, strict=True)
        )
        return Usage(
            prompt_tokens,
            self.num_completion_tokens,
            prompt_tokens + self.num_completion_tokens,
            PromptTokensDetails(cached_tokens),
            CompletionTokensDetails(reasoning_tokens=self._num_reasoning_tokens()),
        )


def _has_whole_calls(choice: _ChoiceState) -> bool:
    """Whether the choice ends with a call that a stop string has not cut off."""
    if not choice.calls or not isinstance(choice.stop_reason, str):
        return bool(choice.calls)
    try:
        msgspec.json.decode("".join(choice.calls[-1].arguments))
    except msgspec.DecodeError:
        return False
    return True


def _read(
    choice: _ChoiceState,
    parser: Parser,
    text: str,
    output: RequestOutput,
    events: list[Event],
    *,
    has_tokens: bool,
) -> None:
    """Emits the pieces that the parser finds in a delta. The tokens of a delta are emitted once:
    together with its text if the delta is all content, otherwise before its pieces."""
    pieces = parser.feed(text)
    if output.finish_reason is not None:
        pieces += parser.finish()
    choice.loops = CallLoop() in pieces
    if has_tokens:
        content = ""
        if len(pieces) == 1 and isinstance(only := pieces[0], Content):
            content, pieces = only.text, []
        _emit(choice, content, output.token_ids, output.logprobs or (), events)
    events += [_keep(choice, piece) for piece in pieces if not isinstance(piece, CallLoop)]


def _keep(choice: _ChoiceState, piece: Content | Reasoning | CallStart | CallArguments) -> Event:
    match piece:
        case Content(text):
            choice.pieces.append(text)
            return TextDelta(choice.index, text)
        case Reasoning(text):
            choice.reasoning.append(text)
        case CallStart():
            choice.calls.append(_Call(piece))
        case CallArguments(number, text):
            choice.calls[number].arguments.append(text)
    return PieceDelta(choice.index, piece)


def _emit(
    choice: _ChoiceState,
    text: str,
    token_ids: list[int],
    logprobs: Sequence[TokenLogprobs | None],
    events: list[Event],
    *,
    num_echoed: int = 0,
) -> None:
    choice.pieces.append(text)
    choice.token_ids += token_ids
    choice.logprobs += logprobs
    if token_ids or text:
        events.append(TokensDelta(choice.index, text, token_ids, logprobs, num_echoed))
