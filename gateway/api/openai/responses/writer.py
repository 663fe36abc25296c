"""Responses as bytes: the events of a stream, and whole bodies, from the same state. Pure."""

import itertools
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET

from gateway.api.openai.protocol.answers import TokenLogprob
from gateway.api.openai.protocol.response_format import TextFormat
from gateway.api.openai.responses.answers import (
    Compaction,
    IncompleteDetails,
    ItemStatus,
    OutputItem,
    ReportedReasoning,
    ReportedText,
    ReportedTool,
    Response,
    ResponseCompleted,
    ResponseCreated,
    ResponseError,
    ResponseFailed,
    ResponseFailure,
    ResponseIncomplete,
    ResponseInProgress,
    ResponseStatus,
    TextLogprob,
    TopTokenLogprob,
    usage_of,
)
from gateway.api.openai.responses.items import (
    CallItem,
    CompactionItem,
    Item,
    MessageItem,
    ReasoningItem,
    frame,
)
from gateway.api.openai.responses.protocol import (
    NamedConversation,
    ResponseRequest,
    ResponseTool,
    conversation_id_of,
)
from gateway.api.openai.translate.sampling import token_limit
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.chat.finish import FinishReason
from gateway.chat.parsing.pieces import CallArguments, CallStart, Reasoning
from gateway.errors import ErrorBody
from gateway.generation.events import (
    Answer,
    AnswerEnd,
    ChoiceEnd,
    ChoiceStart,
    Event,
    PieceDelta,
    TextDelta,
    TokensDelta,
    Usage,
)
from gateway.generation.writer import AnswerWriter, Head, encode
from gateway.settings.schema import Truncation


class ResponseWriter(AnswerWriter):
    """/v1/responses. Items come one after the other, in the order in which the model wrote them.

    With `logprobs` every token comes with its log-probability, those of the reasoning and of calls
    too, as in chats. The tokens belong to one message, which stays open to the end, so that its
    content does not depend on how the answer was cut into deltas.
    """

    def __init__(
        self,
        response: Response,
        logprobs: ChatLogprobsWriter | None = None,
        on_end: Callable[[Response], None] | None = None,
        *,
        num_events: int = 0,
        compaction: Compaction | None = None,
    ) -> None:
        """`on_end` gets the response when it is complete, or has failed in mid-stream. `num_events`
        of the stream have been written already, that of its creation among them. A `compaction` is
        the first item, and part of the usage."""
        self._response = response
        self._on_end = on_end
        self._logprobs = logprobs
        self._is_created = num_events > 0
        self._numbers = itertools.count(num_events)
        self._compaction = compaction
        self._items: list[Item] = []
        self._finished: dict[int, OutputItem] = {}
        self._last: Item | None = None
        self._message: MessageItem | None = None
        self._waiting: list[TextLogprob] = []
        self._reason: FinishReason = "stop"

    def frames(self, events: Sequence[Event]) -> bytes:
        return b"".join([self._frame(event) for event in events])

    def take(self, events: Sequence[Event]) -> None:
        self.frames(events)

    def whole(self, answer: Answer) -> bytes:
        return encode(self._response)

    @property
    def end(self) -> bytes:
        return b""

    def failed(self, error: ErrorBody) -> bytes:
        """The last event of a stream that an error ends, with the answer so far."""
        failure = ResponseFailure(
            "rate_limit_exceeded" if error.code == "rate_limit_exceeded" else "server_error",
            error.message,
        )
        response = msgspec.structs.replace(self.so_far("failed"), error=failure)
        self._over(response)
        return frame(ResponseFailed(sequence_number=next(self._numbers), response=response))

    def so_far(self, status: ResponseStatus) -> Response:
        """The response with what there is of its answer."""
        of_items: ItemStatus = "in_progress" if status == "in_progress" else "incomplete"
        output = [
            self._finished.get(index) or item.item(of_items)
            for index, item in enumerate(self._items)
        ]
        return msgspec.structs.replace(self._response, status=status, output=output)

    def _frame(self, event: Event) -> bytes:
        match event:
            case TextDelta(text=text):
                return self._say(text)
            case TokensDelta():
                return self._emit(event)
            case PieceDelta(piece=piece):
                return self._piece(piece)
            case ChoiceStart():
                return self._begin()
            case ChoiceEnd(finish_reason=reason):
                self._reason = reason
                return self._close_all(reason)
            case AnswerEnd():
                return self._complete(event)

    def _begin(self) -> bytes:
        created = b""
        if not self._is_created:
            number = next(self._numbers)
            created = frame(ResponseCreated(sequence_number=number, response=self._response))
        progress = ResponseInProgress(sequence_number=next(self._numbers), response=self._response)
        return created + frame(progress) + self._compacted()

    def _compacted(self) -> bytes:
        if self._compaction is None or self._compaction.item is None:
            return b""
        item = CompactionItem(len(self._items), self._numbers, self._compaction.item)
        self._items.append(item)
        return item.open() + self._close(item, is_whole=True)

    def _say(self, text: str) -> bytes:
        opening, message = self._open_message()
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            return opening + message.write_tokens(text, waiting)
        return opening + message.write(text)

    def _emit(self, event: TokensDelta) -> bytes:
        """Tokens of the reasoning and of calls wait for the message, if there is none yet."""
        self._waiting += self._reported(event)
        if not event.text and self._message is None:
            return b""
        opening, message = self._open_message() if event.text else (b"", self._message)
        assert message is not None, "opened above, or there already"
        waiting, self._waiting = self._waiting, []
        return opening + message.write_tokens(event.text, waiting)

    def _piece(self, piece: Reasoning | CallStart | CallArguments) -> bytes:
        match piece:
            case Reasoning(text):
                last, opening = self._last, b""
                if not isinstance(last, ReasoningItem):
                    last = ReasoningItem(len(self._items), self._numbers)
                    opening = self._open(last)
                return opening + last.write(text)
            case CallStart():
                return self._open(CallItem(len(self._items), self._numbers, piece))
            case CallArguments(text=text):
                call = self._last
                assert isinstance(call, CallItem), "arguments follow on the start of their call"
                return call.write(text)

    def _open_message(self) -> tuple[bytes, MessageItem]:
        if isinstance(self._last, MessageItem):
            return b"", self._last
        if self._message is not None and self._logprobs is not None:
            return b"", self._message
        self._message = MessageItem(len(self._items), self._numbers)
        return self._open(self._message), self._message

    def _open(self, item: Item) -> bytes:
        """Closes the previous item, unless it is a message with log-probabilities."""
        last = self._last
        keeps_open = isinstance(last, MessageItem) and self._logprobs is not None
        closing = b"" if last is None or keeps_open else self._close(last, is_whole=True)
        self._items.append(item)
        self._last = item
        return closing + item.open()

    def _close(self, item: Item, *, is_whole: bool) -> bytes:
        status: ItemStatus = "completed" if is_whole else "incomplete"
        self._finished[self._items.index(item)] = item.item(status)
        return item.close(status)

    def _close_all(self, reason: FinishReason) -> bytes:
        """Closes all items. An answer that ended by itself has a message or a call, which may be
        empty."""
        frames = b""
        said = [item for item in self._items if not isinstance(item, CompactionItem)]
        has_answer = any(not isinstance(item, ReasoningItem) for item in said)
        if not has_answer and (reason != "length" or not said):
            frames, message = self._open_message()
            if self._waiting:
                waiting, self._waiting = self._waiting, []
                frames += message.write_tokens("", waiting)
        for index, item in enumerate(self._items):
            if index not in self._finished:
                is_whole = reason != "length" or item is not self._last
                frames += self._close(item, is_whole=is_whole)
        return frames

    def _complete(self, event: AnswerEnd) -> bytes:
        is_cut = self._reason == "length"
        self._response = msgspec.structs.replace(
            self._response,
            status="incomplete" if is_cut else "completed",
            incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
            completed_at=None if is_cut else int(time.time()),
            output=[self._finished[index] for index in range(len(self._items))],
            usage=usage_of(self._whole_usage(event.usage)),
        )
        self._over(self._response)
        kind = ResponseIncomplete if is_cut else ResponseCompleted
        return frame(kind(sequence_number=next(self._numbers), response=self._response))

    def _whole_usage(self, usage: Usage) -> Usage:
        return usage if self._compaction is None else usage.plus(self._compaction.usage)

    def _over(self, response: Response) -> None:
        if self._on_end is not None:
            self._on_end(response)

    def _reported(self, event: TokensDelta) -> list[TextLogprob]:
        if self._logprobs is None:
            return []
        written = self._logprobs.write(event.token_ids, event.logprobs)
        return [_text_logprob(entry) for entry in written.content]


def broken_stream(error: ErrorBody) -> bytes:
    """The only event of a stream that an error ends before there is a response."""
    return frame(
        ResponseError(sequence_number=0, code=error.code, message=error.message, param=error.param)
    )


def new_response(
    data: ResponseRequest,
    tools: Sequence[ResponseTool],
    head: Head,
    *,
    is_stored: bool,
    truncation: Truncation = "disabled",
) -> Response:
    """The state of a response at its beginning. `truncation` is the model's if the request does not
    say."""
    wanted = data.text.format if data.text is not None else None
    effort = data.reasoning.effort if data.reasoning is not None else None
    conversation_id = conversation_id_of(data)
    return Response(
        id=head.id,
        conversation=UNSET if conversation_id is None else NamedConversation(conversation_id),
        created_at=head.created,
        status="in_progress",
        instructions=data.instructions,
        max_output_tokens=token_limit(data.max_output_tokens, "max_output_tokens"),
        max_tool_calls=data.max_tool_calls,
        metadata=data.metadata or {},
        model=head.model,
        parallel_tool_calls=data.parallel_tool_calls is not False,
        previous_response_id=data.previous_response_id,
        prompt_cache_key=data.prompt_cache_key,
        reasoning=ReportedReasoning(effort),
        safety_identifier=data.safety_identifier,
        service_tier=UNSET if head.service_tier is None else head.service_tier,
        store=is_stored,
        temperature=1.0 if data.temperature is None else data.temperature,
        text=ReportedText(wanted or TextFormat()),
        tool_choice=data.tool_choice or "auto",
        tools=[_reported_tool(tool) for tool in tools],
        top_logprobs=data.top_logprobs or 0,
        top_p=1.0 if data.top_p is None else data.top_p,
        truncation=data.truncation or truncation,
        user=UNSET if data.user is None else data.user,
    )


def _reported_tool(tool: ResponseTool) -> ReportedTool:
    return ReportedTool(
        type="function",
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters.copy(),  # not a view of the whole body
        strict=bool(tool.strict),
    )


def _text_logprob(entry: TokenLogprob) -> TextLogprob:
    top = [
        TopTokenLogprob(each.token, each.logprob, each.bytes or []) for each in entry.top_logprobs
    ]
    return TextLogprob(entry.token, entry.logprob, entry.bytes or [], top)
