"""What may be asked of an engine, wherever it runs."""

from collections.abc import Sequence
from typing import Literal, Protocol

from runtime.client.embedding_stream import EmbeddingStream
from runtime.client.load_state import LoadState
from runtime.client.token_stream import TokenStream
from runtime.errors import LockgateError
from runtime.messages.embedding import EmbeddingRequest
from runtime.messages.engine import Capability, EngineInfo, EngineLimits, EngineStats
from runtime.messages.request import Request

EngineState = Literal["starting", "ready", "restarting", "failed", "unloaded"]
"""An engine that is "unloaded" has been ended on purpose, and comes back when it is wanted."""


class EngineProgress(Protocol):
    """Whether an engine gets on. Times are seconds of this process's monotonic clock, 0 before the
    first event.

    `last_step_time` is when the engine last reported a step, `last_death_time` when an engine
    process last died. `num_tokens` are the tokens that the running engine process has emitted.
    `num_restarts` counts lost engines that another engine replaces, `num_resumed` the requests that
    were submitted to a next engine. `is_searching` says whether a search for a request that kills
    engines is going on.
    """

    last_step_time: float
    last_death_time: float
    num_tokens: int
    num_deaths: int
    num_restarts: int
    num_resumed: int

    @property
    def is_searching(self) -> bool: ...


class EngineHandle(EngineProgress, Protocol):
    """One engine, as those see it who use it.

    `limits`, `info` and `capabilities` are those of the engine that is ready or comes back;
    `limits` and `info` are None before the first engine is ready. `state_reason` is one sentence or
    more, empty when the engine is ready. `load` is what an engine that starts waits for, None when
    none does.
    """

    state: EngineState
    limits: EngineLimits | None
    info: EngineInfo | None
    capabilities: frozenset[Capability]
    stats: EngineStats
    load: LoadState | None

    @property
    def state_reason(self) -> str: ...

    @property
    def num_in_flight(self) -> int: ...

    def check_room(self, num_requests: int, param: str = "n") -> None:
        """Raises what `submit` would raise now for this many requests, except for their tokens.
        `param` is the request parameter that asks for so many; errors name it."""

    def submit(self, requests: Sequence[Request]) -> TokenStream:
        """Hands requests to the engine; their deltas come out of one stream. Raises
        EngineUnavailable, EngineOverloaded, and InvalidRequest for more than an idle engine can
        take."""
        ...

    def check_embeddings(self) -> EngineLimits:
        """Returns the engine's limits if it has embeddings and room for one request. Otherwise
        raises what `embed` would raise now."""
        ...

    def embed(self, request: EmbeddingRequest) -> EmbeddingStream:
        """Hands an embedding request to the engine. Raises what `submit` raises."""
        ...

    def abort_all(self, error: LockgateError) -> None:
        """Gives up everything in flight; its readers get `error`."""
