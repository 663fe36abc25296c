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
from gateway.api.openai.writers.token_report import TokenReport
from gateway.generation.events import (
    Answer,
    AnswerEnd,
    Choice,
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
    its log-probability. `report` is what the client wants to know of the tokens."""

    kind = "text_completion"
    before_reason = b""

    def __init__(
        self,
        head: Head,
        *,
        include_usage: bool = False,
        usage_so_far: Callable[[], Usage] | None = None,
        new_logprobs: Callable[[], CompletionLogprobsWriter] | None = None,
        report: TokenReport | None = None,
    ) -> None:
        super().__init__(head, include_usage=include_usage, usage_so_far=usage_so_far)
        self._new_logprobs = new_logprobs
        self._report = report
        self._has_prompt: set[int] = set()
        self._logprobs: dict[int, CompletionLogprobsWriter] = {}

    def whole(self, answer: Answer) -> bytes:
        head = self._head
        return encode(
            Completion(
                id=head.id,
                created=head.created,
                model=head.model,
                choices=[self._choice(choice) for choice in answer.choices],
                usage=answer.usage,
                system_fingerprint=UNSET
                if head.system_fingerprint is None
                else head.system_fingerprint,
            )
        )

    def _choice(self, choice: Choice) -> CompletionChoice:
        report = self._report
        return CompletionChoice(
            choice.index,
            choice.text,
            self._reported(choice.index, choice.token_ids, choice.logprobs),
            choice.finish_reason,
            choice.stop_reason,
            UNSET if report is None else report.token_ids(choice),
            UNSET if report is None else report.prompt_token_ids(choice.index),
            UNSET if report is None else report.prompt_logprobs(choice),
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
            return b'%b{"index":%d,"text":%b,"logprobs":%b%b%b' % (
                self._prefix,
                event.index,
                encode(event.text),
                encode(self._reported(event.index, event.token_ids, event.logprobs)),
                self._token_ids(event.index, [] if event.num_echoed else event.token_ids),
                self._no_reason,
            )
        if isinstance(event, ChoiceEnd):
            return b'%b{"index":%d,"text":"","logprobs":null%b,%b}]%b' % (
                self._prefix,
                event.index,
                self._token_ids(event.index, []),
                reason_fields(event),
                self._suffix,
            )
        if isinstance(event, AnswerEnd) and self._include_usage:
            return usage_frame(self._prefix, event.usage)
        return b""

    def _token_ids(self, index: int, token_ids: list[int]) -> bytes:
        """The fields of token ids in a chunk; the first chunk of a choice has its prompt's too."""
        if self._report is None or not self._report.has_token_ids:
            return b""
        fields = b',"token_ids":' + encode(token_ids)
        if index not in self._has_prompt:
            self._has_prompt.add(index)
            fields += b',"prompt_token_ids":' + encode(self._report.prompt_token_ids(index))
        return fields

    def _reported(
        self, index: int, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs | None]
    ) -> CompletionLogprobs | None:
        if self._new_logprobs is None:
            return None
        writer = self._logprobs.get(index)
        if writer is None:
            writer = self._logprobs[index] = self._new_logprobs()
        return writer.write(token_ids, logprobs)
