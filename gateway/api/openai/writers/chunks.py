"""The parts that chunks of chats and completions share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property

import msgspec

from gateway.generation.events import (
    ChoiceEnd,
    Event,
    Usage,
)
from gateway.generation.writer import (
    AnswerWriter,
    Head,
    encode,
)


class Chunks(AnswerWriter, ABC):
    """A writer of chunks: their beginnings and their ends.

    `usage_so_far`, if given, is called at every write, and each chunk of the write has its result;
    otherwise everything after the text is built once.
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


def reason_fields(end: ChoiceEnd) -> bytes:
    """The finish reason of a choice, as fields of its last chunk."""
    return b'"finish_reason":"%b","stop_reason":%b' % (
        end.finish_reason.encode(),
        encode(end.stop_reason),
    )


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


def usage_frame(prefix: bytes, usage: Usage) -> bytes:
    return prefix + b'],"usage":' + encode(usage) + b"}\n\n"
