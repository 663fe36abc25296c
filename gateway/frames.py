"""Answers as bytes: server-sent events from pre-built pieces, and whole JSON bodies.

All that stays the same in a stream is encoded once; of each chunk only the text is.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import msgspec
from msgspec import UNSET, Struct

from gateway.assembler import Answer, AnswerEnd, ChoiceEnd, ChoiceStart, Event, TextDelta
from gateway.protocol import (
    ChatChoice,
    ChatCompletion,
    ChatMessage,
    Completion,
    CompletionChoice,
    ErrorBody,
    ErrorResponse,
    Usage,
    encode,
)

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class Head(Struct, frozen=True):
    """What every chunk of an answer repeats. `service_tier` only if the client asked for one."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    service_tier: str | None = None


class Shape(Protocol):
    """How one endpoint writes answers."""

    def frames(self, events: Sequence[Event]) -> bytes:
        """The server-sent events for these events; may be empty."""
        ...

    def whole(self, answer: Answer) -> bytes:
        """The JSON body of a finished answer."""
        ...


class ChatShape:
    """/v1/chat/completions."""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        self._head = head
        self._include_usage = include_usage
        self._suffix = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._text_end = b'},"logprobs":null,"finish_reason":null}]' + self._suffix
        self._text_begin: dict[int, bytes] = {}

    @cached_property
    def _prefix(self) -> bytes:
        return _chunk_prefix(self._head, "chat.completion.chunk")

    def frames(self, events: Sequence[Event]) -> bytes:
        return b"".join([self._frame(event) for event in events])

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
                        ChatMessage("assistant", choice.text),
                        None,
                        choice.finish_reason,
                    )
                    for choice in answer.choices
                ],
                usage=answer.usage,
                service_tier=UNSET if head.service_tier is None else head.service_tier,
                system_fingerprint=head.system_fingerprint,
            )
        )

    def _frame(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            begin = self._text_begin[event.index]
            return begin + encode(event.text) + self._text_end
        if isinstance(event, ChoiceStart):
            return self._start(event.index)
        if isinstance(event, ChoiceEnd):
            return b'%b{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}]%b' % (
                self._prefix,
                event.index,
                event.finish_reason.encode(),
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


class CompletionShape:
    """/v1/completions."""

    def __init__(self, head: Head, *, include_usage: bool) -> None:
        self._head = head
        self._include_usage = include_usage
        self._suffix = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._text_end = b',"logprobs":null,"finish_reason":null}]' + self._suffix

    @cached_property
    def _prefix(self) -> bytes:
        return _chunk_prefix(self._head, "text_completion")

    def frames(self, events: Sequence[Event]) -> bytes:
        return b"".join([self._frame(event) for event in events])

    def whole(self, answer: Answer) -> bytes:
        head = self._head
        return encode(
            Completion(
                id=head.id,
                created=head.created,
                model=head.model,
                choices=[
                    CompletionChoice(choice.index, choice.text, None, choice.finish_reason)
                    for choice in answer.choices
                ],
                usage=answer.usage,
                system_fingerprint=head.system_fingerprint,
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
        if isinstance(event, ChoiceEnd):
            return b'%b{"index":%d,"text":"","logprobs":null,"finish_reason":"%b"}]%b' % (
                self._prefix,
                event.index,
                event.finish_reason.encode(),
                self._suffix,
            )
        if isinstance(event, AnswerEnd) and self._include_usage:
            return _usage_frame(self._prefix, event.usage)
        return b""


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
    fields["system_fingerprint"] = head.system_fingerprint
    return b"data: " + msgspec.json.encode(fields)[:-1] + b',"choices":['


def _usage_frame(prefix: bytes, usage: Usage) -> bytes:
    return prefix + b'],"usage":' + encode(usage) + b"}\n\n"
