"""One request that the worker has begun."""

from ...plan import Fault
from ...token_maker import TokenMaker
from ..messages import EngineRequest
from .guides import Guide


class Sequence:
    """One answer in the making. `unsent` and `logprobs` are what no response has carried yet.
    `is_read_again` says that the answer was paused, and that no token has come since."""

    __slots__ = (
        "cached_tokens",
        "cursor",
        "faults",
        "finish_reason",
        "guide",
        "is_read_again",
        "iteration",
        "logprobs",
        "plain",
        "prefill_left",
        "prompt_logprobs",
        "request",
        "tokens",
        "unsent",
    )

    def __init__(self, request: EngineRequest, maker: TokenMaker) -> None:
        self.request = request
        self.cursor = maker.read([*request.adapter.encode(), *request.prompt_token_ids])
        self.tokens: list[int] = []
        self.unsent: list[int] = []
        self.logprobs: list[dict[int, tuple[float, int]]] = []
        self.prompt_logprobs: list[dict[int, tuple[float, int]]] | None = None
        self.plain = False
        self.guide: Guide | None = None
        self.is_read_again = False
        self.faults: tuple[Fault, ...] = ()
        self.prefill_left = 0
        self.cached_tokens = 0
        self.iteration = 0
        self.finish_reason: str | None = None

    @property
    def num_tokens(self) -> int:
        return len(self.request.prompt_token_ids) + len(self.tokens)
