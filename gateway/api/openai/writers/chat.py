"""Answers as bytes: server-sent events from pre-built pieces, and whole JSON bodies.

All that stays the same in a stream is encoded once; of each chunk only the text is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Protocol

import msgspec
from msgspec import UNSET, Struct

from gateway.api.openai.protocol.answers import (
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    ErrorBody,
    ErrorResponse,
    Usage,
    encode,
)
from gateway.api.openai.writers.chat_message import chat_message, delta_fields
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter, CompletionLogprobsWriter
from gateway.generation.assembler import (
    Answer,
    AnswerEnd,
    ChoiceEnd,
    ChoiceStart,
    Event,
    PieceDelta,
    TextDelta,
    TokensDelta,
)
from runtime.messages.request import TokenLogprobs

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class Head(Struct, frozen=True):
    """What every chunk of an answer repeats. `service_tier` only if the client asked for one,
    `system_fingerprint` unless the settings leave it out."""

    id: str
    created: int
    model: str
    system_fingerprint: str | None
    service_tier: str | None = None


class Shape(Protocol):
    """How one endpoint writes answers: as a stream, from `frames` and then `end` or `failed`, or as
    a `whole`, where it may `take` note of the events before."""

    def frames(self, events: Sequence[Event]) -> bytes:
        """The server-sent events for these events; may be empty."""
        ...

    def whole(self, answer: Answer) -> bytes:
        """The JSON body of a finished answer."""
        ...

    def take(self, events: Sequence[Event]) -> None:
        """Events of an answer that is sent as a whole."""
        return None  # most have no use for them

    @property
    def end(self) -> bytes:
        """What the stream of a complete answer closes with."""
        return DONE

    def failed(self, error: ErrorBody) -> bytes:
        """What the stream of an answer closes with that an error ended."""
        return error_frame(error) + DONE


class _Chunks(Shape, ABC):
    """What chunks of both endpoints have in common: how they begin and how they end.

    `usage_so_far`, if given, is asked at every write and stands in each chunk of it; otherwise all
    that follows the text is built once.
    """

    kind: str
    before_reason: bytes

    def __init__(
        self,
        head: Head,
        *,
        include_usage: bool = False,
        usage_so_far: Callable[[], Usage] | None = None,
    ) -> None:
        self._head = head
        self._include_usage = include_usage
        self._usage_so_far = usage_so_far
        self._end_chunks_with(b',"usage":null}\n\n' if include_usage else b"}\n\n")

    @cached_property
    def _prefix(self) -> bytes:
        return _chunk_prefix(self._head, self.kind)

    def frames(self, events: Sequence[Event]) -> bytes:
        if self._usage_so_far is not None:
            self._end_chunks_with(b',"usage":' + encode(self._usage_so_far()) + b"}\n\n")
        return b"".join([self._frame(event) for event in events])

    @abstractmethod
    def _frame(self, event: Event) -> bytes:
        """The bytes of one event; may be empty."""

    def _end_chunks_with(self, suffix: bytes) -> None:
        self._suffix = suffix
        self._no_reason = b',"finish_reason":null}]' + suffix
        self._text_end = self.before_reason + b',"logprobs":null' + self._no_reason


class ChatShape(_Chunks):
    """/v1/chat/completions. With `logprobs` every token is told with how likely it was. With
    `legacy_calls` a call is a `function_call`, as for clients that send `functions`."""

    kind = "chat.completion.chunk"
    before_reason = b"}"

    def __init__(
        self,
        head: Head,
        *,
        include_usage: bool = False,
        usage_so_far: Callable[[], Usage] | None = None,
        logprobs: ChatLogprobsWriter | None = None,
        legacy_calls: bool = False,
    ) -> None:
        super().__init__(head, include_usage=include_usage, usage_so_far=usage_so_far)
        self._logprobs = logprobs
        self._legacy_calls = legacy_calls
        self._text_begin: dict[int, bytes] = {}

    def whole(self, answer: Answer) -> bytes:
        head = self._head
        return encode(
            ChatCompletion(
                id=head.id,
                created=head.created,
                model=head.model,
                choices=[
                    ChatChoice(
                        choice.index,
                        chat_message(choice, legacy_calls=self._legacy_calls),
                        self._told(choice.token_ids, choice.logprobs),
                        choice.finish_reason,
                        choice.stop_reason,
                    )
                    for choice in answer.choices
                ],
                usage=answer.usage,
                service_tier=UNSET if head.service_tier is None else head.service_tier,
                system_fingerprint=UNSET
                if head.system_fingerprint is None
                else head.system_fingerprint,
            )
        )

    def _frame(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            begin = self._text_begin[event.index]
            return begin + encode(event.text) + self._text_end
        if isinstance(event, TokensDelta):
            return self._tokens(event)
        if isinstance(event, PieceDelta):
            delta = encode(delta_fields(event.piece, legacy_calls=self._legacy_calls))
            return b'%b{"index":%d,"delta":%b,"logprobs":null%b' % (
                self._prefix,
                event.index,
                delta,
                self._no_reason,
            )
        if isinstance(event, ChoiceStart):
            return self._start(event.index)
        if isinstance(event, ChoiceEnd):
            return b'%b{"index":%d,"delta":{},"logprobs":null,%b}]%b' % (
                self._prefix,
                event.index,
                _reasons(event),
                self._suffix,
            )
        return _usage_frame(self._prefix, event.usage) if self._include_usage else b""

    def _start(self, index: int) -> bytes:
        self._text_begin[index] = b'%b{"index":%d,"delta":{"content":' % (self._prefix, index)
        return b'%b{"index":%d,"delta":{"role":"assistant","content":""%b' % (
            self._prefix,
            index,
            self._text_end,
        )

    def _tokens(self, event: TokensDelta) -> bytes:
        begin = self._text_begin[event.index] + encode(event.text)
        told = encode(self._told(event.token_ids, event.logprobs))
        return begin + b'},"logprobs":' + told + self._no_reason

    def _told(
        self, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs | None]
    ) -> ChatLogprobs | None:
        return None if self._logprobs is None else self._logprobs.write(token_ids, logprobs)


class CompletionShape(_Chunks):
    """/v1/completions. With `new_logprobs`, a writer for each choice, every token is told with how
    likely it was."""

    kind = "text_completion"
    before_reason = b""

    def __init__(
        self,
        head: Head,
        *,
        include_usage: bool = False,
        usage_so_far: Callable[[], Usage] | None = None,
        new_logprobs: Callable[[], CompletionLogprobsWriter] | None = None,
    ) -> None:
        super().__init__(head, include_usage=include_usage, usage_so_far=usage_so_far)
        self._new_logprobs = new_logprobs
        self._logprobs: dict[int, CompletionLogprobsWriter] = {}

    def whole(self, answer: Answer) -> bytes:
        head = self._head
        return encode(
            Completion(
                id=head.id,
                created=head.created,
                model=head.model,
                choices=[
                    CompletionChoice(
                        choice.index,
                        choice.text,
                        self._told(choice.index, choice.token_ids, choice.logprobs),
                        choice.finish_reason,
                        choice.stop_reason,
                    )
                    for choice in answer.choices
                ],
                usage=answer.usage,
                system_fingerprint=UNSET
                if head.system_fingerprint is None
                else head.system_fingerprint,
            )
        )

    def _frame(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return b'%b{"index":%d,"text":%b%b' % (
                self._prefix,
                event.index,
                encode(event.text),
                self._text_end,
            )
        if isinstance(event, TokensDelta):
            return b'%b{"index":%d,"text":%b,"logprobs":%b%b' % (
                self._prefix,
                event.index,
                encode(event.text),
                encode(self._told(event.index, event.token_ids, event.logprobs)),
                self._no_reason,
            )
        if isinstance(event, ChoiceEnd):
            return b'%b{"index":%d,"text":"","logprobs":null,%b}]%b' % (
                self._prefix,
                event.index,
                _reasons(event),
                self._suffix,
            )
        if isinstance(event, AnswerEnd) and self._include_usage:
            return _usage_frame(self._prefix, event.usage)
        return b""

    def _told(
        self, index: int, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs | None]
    ) -> CompletionLogprobs | None:
        if self._new_logprobs is None:
            return None
        writer = self._logprobs.get(index)
        if writer is None:
            writer = self._logprobs[index] = self._new_logprobs()
        return writer.write(token_ids, logprobs)


def _reasons(end: ChoiceEnd) -> bytes:
    """Why a choice has ended, as fields of its last chunk."""
    return b'"finish_reason":"%b","stop_reason":%b' % (
        end.finish_reason.encode(),
        encode(end.stop_reason),
    )


def error_frame(error: ErrorBody) -> bytes:
    """An error after the headers have gone; the official client raises it."""
    return b"data: " + encode(ErrorResponse(error)) + b"\n\n"


def _chunk_prefix(head: Head, kind: str) -> bytes:
    fields: dict[str, str | int] = {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
    }
    if head.service_tier is not None:
        fields["service_tier"] = head.service_tier
    if head.system_fingerprint is not None:
        fields["system_fingerprint"] = head.system_fingerprint
    return b"data: " + msgspec.json.encode(fields)[:-1] + b',"choices":['


def _usage_frame(prefix: bytes, usage: Usage) -> bytes:
    return prefix + b'],"usage":' + encode(usage) + b"}\n\n"
