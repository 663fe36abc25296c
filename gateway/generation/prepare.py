"""The token ids of a job's prompts, and what its answers depend on besides them."""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gateway.bounds.work_pool import Work, at_once
from gateway.chat.conversation import Conversation, Turn
from gateway.chat.reasoning.plan import (
    PreparedThinking,
    ThinkingPlan,
    plan_thinking,
    prepare_thinking,
)
from gateway.chat.shortening import last_turns, num_items
from gateway.chat.template.prompt import RenderedPrompt, render_conversation
from gateway.chat.template.template import ChatTemplate
from gateway.generation.context.truncation import room_for_prompt, shortened
from gateway.generation.events import Echo
from gateway.generation.job import Job, TextPrompts
from gateway.generation.prompts import (
    check_fim,
    check_token_ids,
    empty_prompt,
    fim_prompt,
    truncate,
)
from gateway.models.served_model import ServedModel
from runtime.errors import ContextLengthExceeded, InvalidRequest

MAX_UNREAD = 20
"""Variables of a chat template that are reported because it does not read them."""

NOT_REASONING = "the model does not think before it answers"
NOT_SHOWN = "the model's chat template does not show names"
NOT_READ = "the model's chat template does not read it"

MAX_ECHO = 16_000_000
"""Characters of all echoed prompts of an answer together."""


class PreparedPrompts(Struct, frozen=True, kw_only=True):
    """The prompts of a job as token ids. `echoes` are the texts that each prompt's answers begin
    with; none without an echo. `thinking` describes the reasoning of a chat's answers; None if the
    model does not reason. `num_dropped` items of the conversation are not in its prompt, because it
    was too long."""

    token_ids: list[list[int]]
    echoes: Sequence[Echo] = ()
    thinking: PreparedThinking | None = None
    num_dropped: int = 0


async def prepare_prompts(job: Job, model: ServedModel, work: Work = at_once) -> PreparedPrompts:
    """Renders and tokenizes the prompts of a job; what takes long is done by `work`. Raises
    InvalidRequest, which names the request's parameter, for prompts that this model cannot
    have."""
    room = model.max_model_len - max(_expected_tokens(job), 1)
    if isinstance(job.prompt, TextPrompts):
        return await _text_prompts(job, job.prompt, model, room, work)
    if job.truncate_prompt_tokens is None:
        return await prepare_chat(job.prompt, job, model, work, model.max_model_len)
    prompt, thinking = await prepare_conversation(job.prompt, model, work)
    prompt = truncate(prompt, job.truncate_prompt_tokens, room)
    return PreparedPrompts(token_ids=[prompt], thinking=thinking)


async def prepare_chat(
    conversation: Conversation,
    job: Job,
    model: ServedModel,
    work: Work = at_once,
    most: int | None = None,
) -> PreparedPrompts:
    """The prompt of a job's conversation, without its oldest turns if it is too long and the job or
    the model's settings say so. `most` is as in `prepare_conversation`. Raises what
    `prepare_prompts` raises."""
    if (job.truncation or model.truncation) == "disabled":
        prompt, thinking = await prepare_conversation(conversation, model, work, most)
        return PreparedPrompts(token_ids=[prompt], thinking=thinking)
    limit = job.limit.default if job.limit.num_tokens is None else job.limit.num_tokens
    room = room_for_prompt(model.max_model_len, limit, model.bytes_per_token)
    turns = conversation.turns

    async def fit(kept: Sequence[Turn]) -> PreparedPrompts | None:
        return await fitting(replace(conversation, turns=tuple(kept)), model, work, room.num_tokens)

    if (found := await shortened(turns, room, fit, work)) is not None:
        return replace(found.found, num_dropped=found.num_dropped)
    kept = await work(last_turns, turns)  # which may do with less room for the answer
    prompt, thinking = await prepare_conversation(
        replace(conversation, turns=kept), model, work, most
    )
    num_dropped = num_items(turns) - num_items(kept)
    return PreparedPrompts(token_ids=[prompt], thinking=thinking, num_dropped=num_dropped)


async def fitting(
    conversation: Conversation, model: ServedModel, work: Work, most: int
) -> PreparedPrompts | None:
    """The prompt of a conversation; None if it has more than `most` tokens."""
    try:
        prompt, thinking = await prepare_conversation(conversation, model, work, most)
    except ContextLengthExceeded:
        return None
    return PreparedPrompts(token_ids=[prompt], thinking=thinking) if len(prompt) <= most else None


async def prepare_conversation(
    conversation: Conversation, model: ServedModel, work: Work = at_once, most: int | None = None
) -> tuple[list[int], PreparedThinking | None]:
    """Returns the rendered prompt as token ids, and the reasoning of the answers to it (None if the
    model does not reason). `work` renders. A long prompt of more than `most` tokens may be refused
    before it is tokenized."""
    rendered, plan = await work(_rendered, conversation, model, most)
    prompt = await model.encode_prompt(rendered, most=most, param=conversation.param)
    if model.reasoner is None:
        return prompt, None
    return prompt, prepare_thinking(
        model.reasoner, rendered.text, conversation.continued_text, plan.budget
    )


def _rendered(
    conversation: Conversation, model: ServedModel, most: int | None
) -> tuple[RenderedPrompt, ThinkingPlan]:
    for turn in conversation.turns:
        if turn.role != "assistant":  # whose reasoning a template may leave out
            model.check_length(turn.text.strip(), most=most, param=conversation.param)
    template = model.tool_template if conversation.uses_tools else model.template
    plan = _plan_thinking(conversation, model, template)
    variables = {**plan.variables, **conversation.variables}
    return render_conversation(conversation, template, variables, model.control_texts), plan


def unused_params(job: Job, model: ServedModel) -> Mapping[str, str]:
    """The parameters of a job's conversation that this model can do nothing with, each with the
    reason."""
    return {} if isinstance(job.prompt, TextPrompts) else unused_in(job.prompt, model)


def unused_in(conversation: Conversation, model: ServedModel) -> Mapping[str, str]:
    """The same of a conversation."""
    template = model.tool_template if conversation.uses_tools else model.template
    unread = conversation.variables.keys() - template.reads
    return {
        **dict.fromkeys(_plan_thinking(conversation, model, template).unused, NOT_REASONING),
        **{
            place: NOT_SHOWN
            for role, place in conversation.named.items()
            if role not in template.shows_names
        },
        **{f"chat_template_kwargs.{name}": NOT_READ for name in sorted(unread)[:MAX_UNREAD]},
    }


def _plan_thinking(
    conversation: Conversation, model: ServedModel, template: ChatTemplate
) -> ThinkingPlan:
    reasoning_format = None if model.reasoner is None else model.reasoner.reasoning_format
    controls = model.template_controls(template)
    return plan_thinking(
        conversation.reasoning, reasoning_format, controls, model.default_thinking_budget
    )


def _expected_tokens(job: Job) -> int:
    """Tokens that a truncated prompt leaves room for."""
    limit = job.limit
    return (limit.default or 0) if limit.num_tokens is None else limit.num_tokens


async def _text_prompts(
    job: Job, prompt: TextPrompts, model: ServedModel, room: int, work: Work
) -> PreparedPrompts:
    if prompt.suffix:
        token_ids = await _fim_prompts(job, prompt, model, work)
    else:
        most = model.max_model_len if job.truncate_prompt_tokens is None else None
        token_ids = await _token_lists(prompt, model, work, is_whole=True, most=most)
        if job.truncate_prompt_tokens is not None:
            kept = job.truncate_prompt_tokens
            token_ids = [truncate(each, kept, room) for each in token_ids]
    echoes = await work(_echoes, job, prompt, token_ids, model) if prompt.is_echoed else ()
    return PreparedPrompts(token_ids=token_ids, echoes=echoes)


async def _fim_prompts(
    job: Job, prompt: TextPrompts, model: ServedModel, work: Work
) -> list[list[int]]:
    """Texts are taken literally: a file may well contain what looks like a control token."""
    fim = check_fim(
        model.tokenizer.fim_tokens,
        is_truncated=job.truncate_prompt_tokens is not None,
        is_scored=prompt.is_echoed and job.sampling.prompt_logprobs is not None,
    )
    most = model.max_model_len
    before = await _token_lists(prompt, model, work, is_whole=False, most=most)
    [after] = await model.encode(
        [prompt.suffix], add_special=False, parse_special=False, most=most, param="suffix"
    )
    [empty] = await model.encode([""], add_special=True)
    bos = model.tokenizer.bos_token_id
    first = [bos] if bos is not None and empty[:1] == [bos] else []
    return [fim_prompt(each, after, fim, first) for each in before]


async def _token_lists(
    prompt: TextPrompts, model: ServedModel, work: Work, *, is_whole: bool, most: int | None
) -> list[list[int]]:
    """Checked token ids. A text that is the whole prompt gets the tokens that the tokenizer puts
    around one."""
    token_lists = [item for item in prompt.prompts if isinstance(item, list)]
    if token_lists:
        await work(check_token_ids, token_lists, model.tokenizer.vocab_size)
        return token_lists
    texts = [item for item in prompt.prompts if isinstance(item, str)]
    encoded = await model.encode(texts, add_special=is_whole, parse_special=is_whole, most=most)
    if not is_whole:
        return encoded
    return [each or empty_prompt(model.tokenizer.bos_token_id) for each in encoded]


def _echoes(
    job: Job, prompt: TextPrompts, token_ids: list[list[int]], model: ServedModel
) -> list[Echo]:
    """The prompts as the client sent them. A scored or truncated prompt is the text of its tokens,
    so that `text_offset` fits. Raises InvalidRequest for a text that is long and wanted often."""
    echoes = _echoed(job, prompt, token_ids, model)
    num_characters = sum(len(echo.text) for echo in echoes) * job.num_candidates
    if num_characters > MAX_ECHO:
        raise InvalidRequest(
            f"`echo` would repeat the prompts in {num_characters} characters; this server takes"
            f" {MAX_ECHO}. Ask for fewer answers, or leave `echo` out.",
            param="echo",
        )
    return echoes


def _echoed(
    job: Job, prompt: TextPrompts, token_ids: list[list[int]], model: ServedModel
) -> list[Echo]:
    if job.sampling.prompt_logprobs is not None or job.truncate_prompt_tokens is not None:
        return [Echo(model.decode(each), each) for each in token_ids]
    return [Echo(item if isinstance(item, str) else model.decode(item)) for item in prompt.prompts]
