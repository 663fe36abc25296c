"""POST /v1/responses/compact."""

import secrets
from collections.abc import Sequence

from litestar import post
from litestar.types import ASGIApp
from msgspec import Raw
from msgspec.structs import replace

from gateway.api.openai.bodies import COMPACT_BODY
from gateway.api.openai.responses.compaction.answer import CompactedResponse, CompactionWriter
from gateway.api.openai.responses.compaction.request import CompactRequest, as_response, unused
from gateway.api.openai.responses.compaction.summary import last_messages, summary_job
from gateway.api.openai.responses.protocol import ResponseTools
from gateway.api.openai.responses.schema_notes import PARTS
from gateway.api.openai.responses.stored.memory import earlier_items
from gateway.api.openai.responses.translate import response_job
from gateway.chat.conversation import Conversation, Turn
from gateway.generation.job import Job
from gateway.generation.run import AnswerRun
from gateway.generation.scheduling import Caller
from gateway.generation.writer import AnswerWriter, new_head
from gateway.http.body import apart
from gateway.http.context import AnyRequest, CurrentContext, caller_of, served_model
from gateway.http.route_facts import ENGINE_ERRORS, facts
from gateway.http.streaming import respond
from runtime.errors import InvalidRequest

KEPT_SHARE = 8
"""The user's last messages stay as they are up to this part of the context: an eighth."""

FACTS = facts(
    operation="chat",
    body=CompactRequest,
    answer=CompactedResponse,
    errors=ENGINE_ERRORS,
    parts=PARTS,
)


@post("/v1/responses/compact", status_code=200, opt=FACTS)
async def compact_response(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Sum up a conversation. The output takes its place in the input of later requests."""
    data = await COMPACT_BODY.read(request)
    model = await served_model(context, request, data)
    earlier = await earlier_items(context, request, data.previous_response_id)
    caller = caller_of(context, request)
    job_id = f"resp_{secrets.token_hex(16)}"
    turns, job = await apart(request, _job, data, job_id, caller, model.lora, earlier)

    def new_writer(_: AnswerRun) -> AnswerWriter:
        most = int(model.max_model_len / KEPT_SHARE * model.bytes_per_token)
        item_id = f"cmp_{secrets.token_hex(16)}"
        return CompactionWriter(new_head(job.id, model), item_id, last_messages(turns, most))

    return await respond(context, request, job, model, new_writer)


def _job(
    data: CompactRequest, job_id: str, caller: Caller, lora: str, earlier: Sequence[Raw]
) -> tuple[Sequence[Turn], Job]:
    """The turns to sum up, and the job that does. Raises InvalidRequest."""
    whole = response_job(as_response(data), ResponseTools(), job_id, caller, lora, earlier)
    assert isinstance(whole.prompt, Conversation), "a response is a chat"
    turns = whole.prompt.turns
    if all(turn.role == "system" for turn in turns):
        raise InvalidRequest(
            "`input` has nothing to sum up. Send the items of a conversation, or"
            " `previous_response_id`.",
            param="input",
        )
    return turns, replace(summary_job(whole, turns, job_id), ignored=unused(data))
