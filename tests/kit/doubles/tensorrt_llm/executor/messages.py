"""What goes between the caller's side and the worker. All of it can be pickled."""

from typing import Any, NamedTuple

import msgspec


class EngineRequest(msgspec.Struct, frozen=True, gc=False):
    """One request as the worker sees it. Everything is resolved; `end_id` is -1 for none."""

    client_id: int
    prompt_token_ids: list[int]
    max_tokens: int
    end_id: int
    streaming: bool
    stop_token_ids: tuple[int, ...] = ()
    min_tokens: int = 0
    greedy: bool = True
    seed: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    prompt_ignore_length: int = 0
    ban_last_token: bool = False
    logprobs: int | None = None
    prompt_logprobs: int = 0
    logits_processors: tuple[Any, ...] = ()
    guide: tuple[str, Any] | None = None
    cache_salt: str | None = None
    adapter: str = ""
    priority: float = 0.5


class Cancel(NamedTuple):
    client_id: int


class Die(NamedTuple):
    """A test's word: the worker ends as if by a signal."""


class Response(msgspec.Struct, gc=False):
    """News of one request.

    `token_ids` and `logprobs` are what is new since the last response. With `error` set the request
    is over and the rest is empty; `fatal` says that the whole engine is.
    """

    client_id: int
    token_ids: list[int]
    finish_reason: str | None = None
    is_final: bool = False
    logprobs: list[dict[int, tuple[float, int]]] | None = None
    prompt_logprobs: list[dict[int, tuple[float, int]]] | None = None
    cached_tokens: int = 0
    error: str | None = None
    fatal: bool = False


class Batch(NamedTuple):
    """What one iteration sends: responses and a statistics record.

    `engine_error` belongs to no request. `dead` says that the worker will not speak again.
    """

    responses: list[Response]
    stats: dict[str, Any] | None = None
    engine_error: str | None = None
    dead: bool = False


class WorkerConfig(msgspec.Struct, frozen=True):
    """What the worker is started with. `tokenizer` is a folder or None; the plan is JSON."""

    plan: bytes
    vocab_size: int
    eos_token_id: int | None
    max_batch_size: int
    max_num_tokens: int
    max_seq_len: int
    num_kv_tokens: int
    tokens_per_block: int
    enable_block_reuse: bool
    reserve_whole: bool
    chunked_prefill: bool
    stream_interval: int
    iter_stats: bool
    use_priority: bool
    honours_penalties: bool
    logprobs_have_sampled_token: bool
    prompt_logprobs_have_prompt_token: bool
    eos_in_token_ids: bool
    first_token_at_once: bool
    failing_processor_fails_all: bool
    loop_says_its_end: bool
    honours_seeds: bool
    stops_despite_ignore_eos: bool
    overlap_scheduler: bool
    guided_backend: str | None
    tokenizer: str | None
