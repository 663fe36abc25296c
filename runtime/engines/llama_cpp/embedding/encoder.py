"""The engine of a model that cannot generate: it is made for embeddings, or to rank documents."""

from collections.abc import Sequence
from typing import NoReturn

from runtime.config.engine import EngineConfig
from runtime.engines.base import FailedSequence, SequenceOutput
from runtime.engines.llama_cpp.embedding.embedder import LlamaEmbedder
from runtime.engines.llama_cpp.embedding.pooling import find_pooling
from runtime.engines.llama_cpp.embedding.results import find_scoring
from runtime.engines.llama_cpp.weights import LlamaWeights
from runtime.messages.engine import Capability, EngineLimits, EngineUsage
from runtime.messages.request import Request
from runtime.messages.tasks import cannot_generate


class EncoderEngine:
    """Implements `Engine`; every request but those for its embedder is refused.

    Raises SetupError for a model that makes neither embeddings nor the scores of a reranker.
    """

    def __init__(self, config: EngineConfig, weights: LlamaWeights) -> None:
        self._weights = weights
        trained = weights.shape.context
        wanted = trained if config.max_model_len == "auto" else config.max_model_len
        scoring = find_scoring(weights)
        if not weights.ranks:
            find_pooling(weights.pooling_type)
        self.embedder = LlamaEmbedder(config, weights, min(wanted, trained))
        self.embedder.open()  # nothing else is served
        self.capabilities: frozenset[Capability] = frozenset()
        self.limits = EngineLimits(
            max_model_len=self.embedder.max_tokens,
            max_num_seqs=config.max_num_seqs,
            max_num_waiting=config.max_num_waiting,
            max_num_batched_tokens=config.max_num_batched_tokens,
            num_kv_tokens=0,
            max_embedding_len=self.embedder.max_tokens,
            embedding_width=0 if weights.ranks else self.embedder.width,
            can_generate=False,
            scoring=scoring,
        )
        self.info = weights.describe()

    @property
    def num_running(self) -> int:
        return 0

    def prepare(self, request: Request) -> NoReturn:
        raise cannot_generate(self.limits)

    def can_add(self, request: Request) -> bool:
        return True  # `add` refuses it

    def add(self, request: Request) -> None:
        self.prepare(request)

    def abort(self, request_id: str) -> None:
        pass  # nothing runs

    def preempt(self, request_id: str) -> None:
        pass  # nothing runs

    def take_preempted(self) -> list[Request]:
        return []

    def take_failed(self) -> list[FailedSequence]:
        return []

    def step(self) -> Sequence[SequenceOutput]:
        return []

    def take_usage(self) -> EngineUsage:
        return EngineUsage()

    def close(self) -> None:
        self.embedder.close()
        self._weights.close()
