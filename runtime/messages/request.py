"""What a request is once it has been checked, and what comes back for it.

Everything here is frozen and crosses the process border as msgpack. In a checked request
nothing is optional that has a default: the engine never asks "is it None?" for a limit.
"""

from typing import Literal

from msgspec import Struct

from runtime.messages.structured_output import (
    StructuredOutput,
)

FinishReason = Literal["stop", "length"]

PRIORITY_STEP = 100
"""Priority difference between adjacent classes of service; values between give a finer order."""


class Thinking(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the text of an answer shows where the model thinks, and how long it may.

    `start` and `end` stand around a block of thinking. There is one at most, at the answer's very
    beginning; with `starts_inside` the prompt has opened it. With `repeats` there may be several,
    anywhere before `answer`, which then begins what the model says for good; otherwise that begins
    behind the block. `start_token_id` is the token of `start`; None if it is several tokens.

    `budget` is the maximum number of tokens of all blocks together (vLLM's
    `thinking_token_budget`); None is no limit. When it is used up, `closing_token_ids` are forced
    next, which end the block.
    """

    start: str
    end: str
    answer: str = ""
    starts_inside: bool = False
    repeats: bool = False
    start_token_id: int | None = None
    budget: int | None = None
    closing_token_ids: tuple[int, ...] = ()


class SamplingParams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How tokens are chosen and when generation ends. Names as in vLLM.

    `temperature` 0 is greedy. `top_k` 0 and `min_p` 0 are off. `max_tokens` is always finite.
    `presence_penalty` and `frequency_penalty` are OpenAI's: they look at generated tokens only;
    `repetition_penalty` looks at the prompt too, and 1 is off. `logit_bias` is added to the
    logits of the token ids that it names. `logprobs` is how many of the likeliest tokens to report
    with each token; 0 reports the chosen token alone, None nothing. `prompt_logprobs` is the same
    for the tokens of the prompt; with it `max_tokens` may be 0. A token of `stop_token_ids` ends
    the answer as an end-of-sequence token does. Before `min_tokens` nothing ends it. What ended the
    answer, stop string or stop token, is part of its text with `include_stop_str_in_output` only.
    `shown_token_ids` are tokens that stand for no text and are shown by their names in this answer,
    because a parser looks for them.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    include_stop_str_in_output: bool = False
    shown_token_ids: tuple[int, ...] = ()
    structured_output: StructuredOutput | None = None


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sequence to generate.

    `output_token_ids` is empty for a new request; a resumed one carries what its client already
    has. `arrival_time` and `deadline` are seconds of the monotonic clock of the process that holds
    the request; see `runtime.messages.wire.Submit` for the way between two processes. A request
    that still waits at its deadline is refused; 0 is no deadline. A lower `priority` is served
    first; a class of service is `PRIORITY_STEP` wide. `tenant` is whose share of the engine this
    takes. Prefixes in the KV cache are shared only between requests of the same `cache_salt`.
    `lora` is the name of an adapter, "" for none.
    `thinking` is None when nothing depends on it: the request has neither a thinking budget nor a
    structured output that applies only after the thinking.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams
    output_token_ids: list[int] = []
    priority: int = 0
    tenant: str = ""
    cache_salt: str = ""
    arrival_time: float = 0.0
    deadline: float = 0.0
    lora: str = ""
    thinking: Thinking | None = None

    @property
    def is_resumed(self) -> bool:
        """Whether its client has a part of the answer. Such a request is never refused."""
        return bool(self.output_token_ids)


class TokenLogprobs(Struct, frozen=True, array_like=True, gc=False):
    """How likely one token was: the natural logarithm of its probability, its `rank` among all
    tokens (1 is the likeliest; None where the engine does not say), and the likeliest tokens
    with theirs, likeliest first."""

    logprob: float
    rank: int | None = None
    top: list[tuple[int, float]] = []


class RequestOutput(Struct, frozen=True, array_like=True, gc=False):
    """What one step added to one request: deltas only.

    `token_ids` may come without `text` (half a character, or text held back because a stop string
    may have begun). `stop_reason` is the stop string that matched, or the token of
    `stop_token_ids`. `num_cached_tokens` counts prompt tokens that were not computed again.
    `logprobs`, where the request asks for them, has one entry for each of `token_ids`.
    `prompt_logprobs` come with the first delta, one for each token of the prompt; the first token
    follows nothing and has None. `seconds_queued` is the time from the request's arrival until the
    engine admitted it; it comes once, with the first delta.
    """

    request_id: str
    token_ids: list[int]
    text: str
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    num_cached_tokens: int = 0
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    seconds_queued: float | None = None
