"""POST /v1/completions."""

import secrets
from functools import partial

from litestar import post
from litestar.types import ASGIApp

from gateway.api.openai.bodies import COMPLETION_BODY
from gateway.api.openai.protocol.answers import Completion
from gateway.api.openai.protocol.chunks import CompletionChunk
from gateway.api.openai.protocol.requests import CompletionRequest, StreamOptions
from gateway.api.openai.schema_notes import note_fields
from gateway.api.openai.translate.job import completion_job
from gateway.api.openai.writers.best_of import BestOf
from gateway.api.openai.writers.completion import CompletionWriter
from gateway.api.openai.writers.logprobs import CompletionLogprobsWriter
from gateway.api.openai.writers.token_report import token_report
from gateway.generation.run import AnswerRun
from gateway.generation.writer import AnswerWriter, new_head
from gateway.http.body import apart
from gateway.http.context import AnyRequest, CurrentContext, caller_of, served_model
from gateway.http.route_facts import ENGINE_ERRORS, facts
from gateway.http.streaming import respond
from runtime.tokenizers.decoding import puts_space_first

FACTS = facts(
    operation="text_completion",
    body=CompletionRequest,
    answer=Completion,
    event=CompletionChunk,
    errors=ENGINE_ERRORS,
    describe=note_fields(CompletionRequest),
)


@post("/v1/completions", status_code=200, opt=FACTS)
async def create_completion(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Continue one or more texts, as a stream or in one piece."""
    data = await COMPLETION_BODY.read(request)
    model = await served_model(context, request, data)
    job_id = f"cmpl-{secrets.token_hex(16)}"
    caller = caller_of(context, request)
    job = await apart(request, completion_job, data, job_id, caller, model.lora)

    def new_writer(run: AnswerRun) -> AnswerWriter:
        options = data.stream_options or StreamOptions()
        new_logprobs = partial(
            CompletionLogprobsWriter,
            model.tokenizer,
            data.logprobs or 0,
            as_token_ids=bool(data.return_tokens_as_token_ids),
            drops_space=bool(data.echo) and puts_space_first(model.tokenizer),
        )
        writer = CompletionWriter(
            new_head(job.id, model),
            include_usage=bool(options.include_usage),
            usage_so_far=run.usage_so_far if options.continuous_usage_stats else None,
            new_logprobs=None if data.logprobs is None else new_logprobs,
            report=token_report(data, run, model),
        )
        n, best_of = job.num_choices, job.num_candidates
        return writer if n == best_of else BestOf(writer, n=n, best_of=best_of)

    return await respond(context, request, job, model, new_writer)
