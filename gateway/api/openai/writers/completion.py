"""Events to the bytes of /v1/completions."""

from collections.abc import Callable, Sequence

from msgspec import UNSET

from gateway.api.openai.protocol.answers import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
)
from gateway.api.openai.writers.chunks import (
    Chunks,
    reason_fields,
    usage_frame,
)
from gateway.api.openai.writers.logprobs import CompletionLogprobsWriter
from gateway.generation.events import (
    Answer,
    AnswerEnd,
    ChoiceEnd,
    Event,
    TextDelta,
    TokensDelta,
    Usage,
)
from gateway.generation.writer import (
    Head,
    encode,
)
from runtime.messages.request import TokenLogprobs


class CompletionWriter(Chunks):
    """/v1/completions. With `new_logprobs`, a writer for each choice, every token comes with
    its log-probability."""

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
                        self._reported(choice.index, choice.token_ids, choice.logprobs),
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
                encode(self._reported(event.index, event.token_ids, event.logprobs)),
                self._no_reason,
            )
        if isinstance(event, ChoiceEnd):
            return b'%b{"index":%d,"text":"","logprobs":null,%b}]%b' % (
                self._prefix,
                event.index,
                reason_fields(event),
                self._suffix,
            )
        if isinstance(event, AnswerEnd) and self._include_usage:
            return usage_frame(self._prefix, event.usage)
        return b""

    def _reported(
        self, index: int, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs | None]
    ) -> CompletionLogprobs | None:
        if self._new_logprobs is None:
            return None
        writer = self._logprobs.get(index)
        if writer is None:
            writer = self._logprobs[index] = self._new_logprobs()
        return writer.write(token_ids, logprobs)
