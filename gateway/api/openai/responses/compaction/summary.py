"""How the model is asked to sum up, and how it is told what was summed up. Pure."""

from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct
from msgspec.structs import replace

from gateway.api.openai.responses.compaction.content import Summary
from gateway.chat.conversation import Conversation, Turn
from gateway.chat.reasoning.wish import ReasoningWish
from gateway.chat.shortening import cuts, kept_from, num_items, sizes, stays
from gateway.generation.job import Job, TokenLimit
from runtime.messages.request import SamplingParams

INSTRUCTION = (
    "Sum up the conversation so far. You will go on with it later and see nothing of it but your"
    " summary. Write down what the user wants, what was found out and decided, what has been done"
    " and what is left to do. Keep names, numbers, paths and other details that are needed again in"
    " their exact words. Write the summary alone, as plain text of at most 600 words."
)
"""The message that asks for a summary, behind the conversation."""

MAX_TOKENS = 1024
"""Tokens that a summary may have."""

SUMMARY = "Here is a summary of the conversation up to this point:\n\n{text}"
LAST_MESSAGES = "\n\nThe user's last messages up to this point, in full:\n\n{messages}"


class Split(Struct, frozen=True):
    """A conversation in two: turns to sum up, and those behind them that are kept. `messages` has
    the last message of the user before the kept turns, if these begin with an answer to it."""

    before: Sequence[Turn]
    kept: Sequence[Turn]
    messages: tuple[str, ...]


def split(turns: Sequence[Turn], num_bytes: int) -> Split | None:
    """Keeps turns of about `num_bytes` at the end, and at least the last ones. None if there is
    nothing before them, or nothing but a summary."""
    summed = max((i for i, turn in enumerate(turns) if turn.is_kept), default=0)
    places = [cut for cut in cuts(turns) if cut > summed]
    if not places:
        return None
    weights = [0 if stays(t) else w for t, w in zip(turns, sizes(turns), strict=True)]
    total, dropped = sum(weights), [0, *accumulate(weights)]
    cut = next((each for each in places if total - dropped[each] <= num_bytes), places[-1])
    return Split(turns[:cut], turns[cut:], _messages(turns, cut))


def summary_job(job: Job, turns: Sequence[Turn], job_id: str) -> Job:
    """The job that sums up these turns: without tools, without reasoning where the model can do
    without, and with the same words each time. It is scheduled as `job` is."""
    assert isinstance(job.prompt, Conversation), "a response is a chat"
    return Job(
        id=job_id,
        prompt=Conversation(
            turns=(*turns, Turn("user", INSTRUCTION)),
            reasoning=ReasoningWish(is_on=False, is_shown=False),
            variables=job.prompt.variables,
            param=job.prompt.param,
        ),
        sampling=SamplingParams(max_tokens=0, temperature=0.0),
        limit=TokenLimit(num_tokens=MAX_TOKENS),
        scheduling=job.scheduling,
        seed=0,
        truncation=job.truncation,
        param_names=job.param_names,
        ignored=job.ignored,
    )


def summary_turn(summary: Summary) -> Turn:
    """The summary as the model reads it: a message of the user, since it is made of what users and
    tools have said. It is never dropped."""
    text = SUMMARY.format(text=summary.text)
    if summary.messages:
        text += LAST_MESSAGES.format(messages="\n\n".join(summary.messages))
    return Turn("user", text, is_kept=True)


def continued(conversation: Conversation, parts: Split, summary: Summary) -> Conversation:
    """The conversation with the summary in place of what was summed up."""
    system = [turn for turn in parts.before if turn.role == "system"]
    return replace(conversation, turns=(*system, summary_turn(summary), *parts.kept))


def summary_of(parts: Split, text: str) -> Summary:
    """What stands for the turns that were summed up to `text`."""
    return Summary(text, messages=parts.messages, num_kept=num_items(parts.kept))


def last_messages(turns: Sequence[Turn], num_bytes: int) -> tuple[str, ...]:
    """The user's last messages, in their order, as many as have no more than so many bytes."""
    asked = [turn for turn in turns if turn.role == "user" and not stays(turn)][::-1]
    sums = accumulate(sizes(asked))
    found = [turn.text for turn, total in zip(asked, sums, strict=True) if total <= num_bytes]
    return tuple(found[::-1])


def _messages(turns: Sequence[Turn], cut: int) -> tuple[str, ...]:
    before = kept_from(turns, cut)[: -(len(turns) - cut)]
    return tuple(turn.text for turn in before if not stays(turn))
