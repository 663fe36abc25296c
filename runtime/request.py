"""What a request is once it has been checked, and what comes back for it.

Everything here is frozen and crosses the process border as msgpack. After `gateway.translate`
nothing is optional that has a default: the engine never asks "is it None?" for a limit.
"""

from typing import Literal

from msgspec import Struct

FinishReason = Literal["stop", "length"]

PRIORITY_STEP = 100
"""From one class of service to the next; numbers between them are for finer orders."""


class SamplingParams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How tokens are chosen and when generation ends. Names as in vLLM.

    `temperature` 0 is greedy. `top_k` 0 and `min_p` 0 are off. `max_tokens` is always finite.
    Penalties are OpenAI's: they look at generated tokens only.
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


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sequence to generate.

    `output_token_ids` is empty for a new request; a resumed one carries what its client already
    has. `arrival_time` and `deadline` are seconds of the system's monotonic clock, which all
    processes of a machine share; a request that still waits at its deadline is refused, and 0
    means none. A lower `priority` is served first; a class of service is `PRIORITY_STEP` wide.
    `tenant` is whose share of the engine this takes. Prefixes in the KV cache are shared only
    between requests of the same `cache_salt`.
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


class RequestOutput(Struct, frozen=True, array_like=True, gc=False):
    """What one step added to one request: deltas only.

    `token_ids` may come without `text` (half a character, or text held back because a stop string
    may have begun). `stop_reason` is the stop string that matched. `num_cached_tokens` counts
    prompt tokens that were not computed again.
    """

    request_id: str
    token_ids: list[int]
    text: str
    finish_reason: FinishReason | None = None
    stop_reason: str | None = None
    num_cached_tokens: int = 0
