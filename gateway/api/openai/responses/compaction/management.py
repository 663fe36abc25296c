"""`context_management`: sums up a conversation that has grown too long, and then answers it."""

import secrets
import time

import structlog
from msgspec.structs import replace

from gateway.admission.accounts import counted
from gateway.admission.middleware import reserve_tokens
from gateway.api.openai.responses.answers import Compaction, OutputCompaction
from gateway.api.openai.responses.compaction.content import written
from gateway.api.openai.responses.compaction.summary import (
    Split,
    continued,
    split,
    summary_job,
    summary_of,
)
from gateway.api.openai.responses.protocol import ResponseRequest
from gateway.chat.conversation import Conversation
from gateway.generation.context.truncation import room_for_prompt
from gateway.generation.events import Answer
from gateway.generation.job import Job
from gateway.generation.prepare import fitting
from gateway.generation.run import prepare_run
from gateway.http.body import work_for
from gateway.http.context import AnyRequest, Context
from gateway.http.deadlines import at_deadline
from gateway.models.served_model import ServedModel
from gateway.observability.reports.dropped_items import report_dropped
from gateway.observability.request_record import RequestRecord

log = structlog.get_logger(__name__)

DEFAULT_SHARE = 0.75
"""Of the model's context: the threshold of a request that names none."""

KEPT_SHARE = 4
"""The last turns are kept up to this part of the threshold: a quarter."""


class Compacting:
    """Sums up one request's conversation if it has more tokens than the threshold. `done` is what
    was done, None for nothing."""

    def __init__(
        self, context: Context, request: AnyRequest, model: ServedModel, threshold: int | None
    ) -> None:
        self.done: Compaction | None = None
        self._context = context
        self._request = request
        self._model = model
        self._threshold = threshold

    async def __call__(self, job: Job) -> Job:
        """The same job, with the summary in place of what was summed up, and as patient as before
        that."""
        conversation = job.prompt
        assert isinstance(conversation, Conversation), "a response is a chat"
        work, most = work_for(self._request), self._most(job)
        if await fitting(conversation, self._model, work, most) is not None:
            return job
        num_bytes = int(most / KEPT_SHARE * self._model.bytes_per_token)
        parts = await work(split, conversation.turns, num_bytes)
        return job if parts is None else await self._summed_up(job, conversation, parts)

    def _most(self, job: Job) -> int:
        """The threshold in tokens: never more than a prompt may have."""
        length = self._model.max_model_len
        room = room_for_prompt(length, job.limit.num_tokens, 1.0).num_tokens
        return min(room, self._threshold or int(length * DEFAULT_SHARE))

    async def _summed_up(self, job: Job, conversation: Conversation, parts: Split) -> Job:
        item_id, began = f"cmp_{secrets.token_hex(16)}", time.monotonic()
        wanted = replace(summary_job(job, parts.before, item_id), truncation="auto")
        answer = await self._answer(wanted)
        text = answer.choices[0].text.strip()
        self._report(answer, is_done=bool(text))
        if not text:
            self.done = Compaction(None, answer.usage)
            return job
        summary = summary_of(parts, text)
        item = OutputCompaction(id=item_id, encrypted_content=written(summary))
        self.done = Compaction(item, answer.usage)
        shorter = replace(job, prompt=continued(conversation, parts, summary))
        return _as_patient(shorter, time.monotonic() - began)

    def _report(self, answer: Answer, *, is_done: bool) -> None:
        log.info(
            "conversation_compacted" if is_done else "conversation_not_compacted",
            request_id=RequestRecord.of(self._request.scope).request_id,
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
        )

    async def _answer(self, job: Job) -> Answer:
        request_record = RequestRecord.of(self._request.scope)
        metrics = self._context.metrics.of(request_record.model_name)
        run = await prepare_run(job, self._model, metrics, work_for(self._request))
        reserve_tokens(self._request.scope, run)
        counted(self._request.scope, self._context.ledger, run.record)
        request_record.earlier_answers.append(run.record)
        report_dropped(run.num_dropped, request_record)
        with run, at_deadline(request_record.deadline, run.expire):
            async for _ in run:
                pass
        return run.result()


def compacting(
    context: Context, request: AnyRequest, data: ResponseRequest, model: ServedModel
) -> Compacting | None:
    """What `context_management` asks for; None if it asks for nothing. Of several thresholds the
    lowest holds."""
    if not data.context_management:
        return None
    wanted = [each.compact_threshold for each in data.context_management]
    named = [each for each in wanted if each is not None]
    return Compacting(context, request, model, min(named, default=None))


def _as_patient(job: Job, seconds: float) -> Job:
    """The job with as much time to wait as it had so many seconds ago."""
    scheduling = job.scheduling
    if not scheduling.deadline:
        return job
    return replace(job, scheduling=replace(scheduling, deadline=scheduling.deadline + seconds))
