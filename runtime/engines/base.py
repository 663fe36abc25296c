"""The interface between the worker and an engine."""

from collections.abc import Sequence as SequenceOf
from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LoRAAdapter
from runtime.errors import LockgateError
from runtime.messages.engine import Capability, EngineInfo, EngineLimits, EngineUsage
from runtime.messages.loading import Announce
from runtime.messages.request import FinishReason, Request, TokenLogprobs
from runtime.messages.structured_output import LeftOut
from runtime.tokenizers.tokenizer import Tokenizer


class SequenceOutput(Struct, frozen=True, gc=False):
    """What one step sampled for one sequence.

    `finish_reason` is "stop" after an end-of-sequence token or one of the request's
    `stop_token_ids` (it is the last of `token_ids`), and "length" when `max_tokens` or the context
    is used up. A finished sequence is gone from the engine. The engine ignores stop strings: the
    worker finds them and aborts the sequence. `logprobs` is as long as `token_ids`.
    `prompt_logprobs` is as long as the prompt and comes once, with the first output; a sequence
    that asks for them and for no token ends with an output without tokens.
    """

    request_id: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    num_cached_tokens: int = 0
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs | None] | None = None


class FailedSequence(Struct, frozen=True, gc=False):
    """A sequence that ended with an error of its own; it is gone from the engine."""

    request_id: str
    error: LockgateError


MAX_EMBEDDING_TOKENS = 8192
"""Maximum number of tokens in a text to embed, even if the model's context is longer: as many as
OpenAI's embedding models accept. It bounds the memory that embedding needs."""

EmbeddingKey: TypeAlias = tuple[str, int]
"""An input of an embedding request: the id of the request, and the index of the input."""


class Embedder(Protocol):
    """Turns texts into vectors, or a reranker's texts into scores, several in one batch, beside the
    sequences of an engine.

    The first call of `open` allocates memory and may take a while; it raises EngineError if there
    is not enough. `add` may be called when `can_add` returns True, with 1 to `max_tokens` ids below
    `vocab_size`. `step` computes for about `seconds` and returns the vectors that are complete, as
    the bytes that `Embedded` describes. `remove` frees an input; an unknown one is ignored.
    `take_num_tokens` is the number of tokens computed since the last call.
    """

    @property
    def max_tokens(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    def open(self) -> None: ...

    def can_add(self, num_tokens: int) -> bool: ...

    def add(self, key: EmbeddingKey, token_ids: SequenceOf[int]) -> None: ...

    def remove(self, key: EmbeddingKey) -> None: ...

    def step(self, seconds: float) -> list[tuple[EmbeddingKey, bytes]]: ...

    def take_num_tokens(self) -> int: ...


class Preparation(Protocol):
    """What an engine has prepared for a request. `left_out` are the keywords of the request's
    schemas that the engine does not enforce."""

    @property
    def left_out(self) -> SequenceOf[LeftOut]: ...


@runtime_checkable
class LoadsAdapters(Protocol):
    """An engine that loads LoRA adapters while it serves. `load_adapter` replaces one of the same
    name; it raises a LockgateError that says why it cannot. An adapter may be replaced or unloaded
    when no sequence uses it; an unknown name is ignored."""

    def load_adapter(self, name: str, adapter: LoRAAdapter) -> None: ...

    def unload_adapter(self, name: str) -> None: ...


class Engine(Protocol):
    """Runs sequences in one continuous batch. Single-threaded; every call returns soon.

    `prepare` starts slow preparations of a request in another thread, so that they delay no other
    request. The request may be added once the returned future is done. Its result is a
    `Preparation`; it may raise InvalidRequest. `prepare` returns None when there is nothing to wait
    for. The result is kept until the request has ended or `abort` is called.

    `add` may be called while others run, and only when `can_add` says so. `abort` frees the
    sequence at once, before the next step; an unknown id is ignored. `step` computes one batch and
    returns what it sampled; with nothing to do it returns an empty list.

    `preempt` preempts a running sequence, and `step` may do so itself when memory runs out.
    `take_preempted` returns preempted sequences as requests that continue where they stopped.
    `take_failed` returns sequences that ended with an error that affects no other sequence. An
    error that `step` raises is the end of the engine.

    `prepare` and `add` raise InvalidRequest for a feature that the engine does not support.
    `embedder` is None when the engine has no embeddings.
    """

    @property
    def limits(self) -> EngineLimits: ...

    @property
    def info(self) -> EngineInfo: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def num_running(self) -> int: ...

    @property
    def embedder(self) -> Embedder | None: ...

    def prepare(self, request: Request) -> Future[Any] | None: ...

    def can_add(self, request: Request) -> bool: ...

    def add(self, request: Request) -> None: ...

    def abort(self, request_id: str) -> None: ...

    def preempt(self, request_id: str) -> None: ...

    def take_preempted(self) -> list[Request]: ...

    def take_failed(self) -> list[FailedSequence]: ...

    def step(self) -> SequenceOf[SequenceOutput]: ...

    def take_usage(self) -> EngineUsage: ...

    def close(self) -> None: ...


class EngineFactory(Protocol):
    """Makes an engine, which loads the model."""

    def __call__(
        self, config: EngineConfig, model_path: str, tokenizer: Tokenizer, announce: Announce
    ) -> Engine: ...
