"""Answers of chats as bytes: server-sent events from pre-built pieces, and whole JSON bodies.

The constant parts of a stream are encoded once; only the text of each chunk is encoded anew.
"""

from collections.abc import Callable, Sequence

from msgspec import UNSET

from gateway.api.openai.protocol.answers import (
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
)
from gateway.api.openai.writers.chat_message import chat_message, delta_fields
from gateway.api.openai.writers.chunks import (
    Chunks,
    reason_fields,
    usage_frame,
)
from gateway.api.openai.writers.logprobs import ChatLogprobsWriter
from gateway.api.openai.writers.token_report import TokenReport
from gateway.generation.events import (
    Answer,
    Choice,
    ChoiceEnd,
    ChoiceStart,
    Event,
    PieceDelta,
    TextDelta,
    TokensDelta,
    Usage,
)
from gateway.generation.writer import (
    Head,
    encode,
)
from runtime.messages.request import TokenLogprobs


class ChatWriter(Chunks):
    """/v1/chat/completions. With `logprobs` every token comes with its log-probability. With
    `legacy_calls` a call is a `function_call`, as for clients that send `functions`. With
    `must_call` the answer can only be calls. `report` is what the client wants to know of the
    tokens."""

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
        must_call: bool = False,
        report: TokenReport | None = None,
    ) -> None:
        super().__init__(head, include_usage=include_usage, usage_so_far=usage_so_far)
        self._logprobs = logprobs
        self._legacy_calls = legacy_calls
        self._must_call = must_call
        self._report = report
        self._text_begin: dict[int, bytes] = {}

    def whole(self, answer: Answer) -> bytes:
        head, report, first = self._head, self._report, answer.choices[0]
        return encode(
            ChatCompletion(
                id=head.id,
                created=head.created,
                model=head.model,
                choices=[self._choice(choice) for choice in answer.choices],
                usage=answer.usage,
                prompt_token_ids=UNSET if report is None else report.prompt_token_ids(0),
                prompt_logprobs=UNSET if report is None else report.prompt_logprobs(first),
                service_tier=UNSET if head.service_tier is None else head.service_tier,
                system_fingerprint=UNSET
                if head.system_fingerprint is None
                else head.system_fingerprint,
            )
        )

    def _choice(self, choice: Choice) -> ChatChoice:
        return ChatChoice(
            choice.index,
            chat_message(choice, legacy_calls=self._legacy_calls, must_call=self._must_call),
            self._reported(choice.token_ids, choice.logprobs),
            choice.finish_reason,
            choice.stop_reason,
            UNSET if self._report is None else self._report.token_ids(choice),
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
                reason_fields(event),
                self._suffix,
            )
        return usage_frame(self._prefix, event.usage) if self._include_usage else b""

    def _start(self, index: int) -> bytes:
        self._text_begin[index] = b'%b{"index":%d,"delta":{"content":' % (self._prefix, index)
        return b'%b{"index":%d,"delta":{"role":"assistant","content":""%b' % (
            self._prefix,
            index,
            self._text_end if self._report is None else self._first_end(self._report, index),
        )

    def _first_end(self, report: TokenReport, index: int) -> bytes:
        """The end of a choice's first chunk, with the ids of its prompt."""
        token_ids = report.prompt_token_ids(index)
        if token_ids is UNSET:
            return self._text_end
        before = self._text_end.removesuffix(self._suffix)
        return before + b',"prompt_token_ids":' + encode(token_ids) + self._suffix

    def _tokens(self, event: TokensDelta) -> bytes:
        begin = self._text_begin[event.index] + encode(event.text)
        reported = encode(self._reported(event.token_ids, event.logprobs))
        if self._report is not None and self._report.has_token_ids:
            reported += b',"token_ids":' + encode(event.token_ids)
        return begin + b'},"logprobs":' + reported + self._no_reason

    def _reported(
        self, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs | None]
    ) -> ChatLogprobs | None:
        return None if self._logprobs is None else self._logprobs.write(token_ids, logprobs)
