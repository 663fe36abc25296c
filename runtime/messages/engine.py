"""What an engine reports about itself: limits, identity, statistics."""

from typing import Literal

from msgspec import Struct

Capability = Literal["structural_tags", "runtime_adapters"]
"""What only some engines can do. "structural_tags": a grammar can enforce tool calls in the model's
own dialect among free text, not only plain JSON. "runtime_adapters": LoRA adapters can be loaded
while it serves."""


Scoring = Literal["none", "cosine", "logit", "probability"]
"""How a model compares a query and a document. "cosine": by the vectors that it makes of each. A
reranker reads both as one text, and the result is a number: a "logit", whose sigmoid is the score,
or the "probability" that the document answers the query."""


class EngineLimits(Struct, frozen=True, kw_only=True):
    """What the engine can take.

    `max_model_len` is in tokens, prompt and answer together. `max_num_waiting` counts requests
    that may wait beside the `max_num_seqs` that run. `num_kv_tokens` is 0 when the engine does
    not report it. `max_embedding_len` is the longest text, in tokens, that becomes a vector of
    `embedding_width` numbers; both are 0 for an engine without embeddings. `can_generate` is
    false for a model that only makes embeddings. A reranker has an `embedding_width` of 0, and
    `max_embedding_len` is its longest query and document together.
    """

    max_model_len: int
    max_num_seqs: int
    max_num_waiting: int
    max_num_batched_tokens: int
    num_kv_tokens: int
    max_embedding_len: int = 0
    embedding_width: int = 0
    can_generate: bool = True
    scoring: Scoring = "none"

    @property
    def ranks(self) -> bool:
        """Whether the model reads a query and a document as one text, and makes no embeddings."""
        return self.scoring in ("logit", "probability")


class EngineInfo(Struct, frozen=True, kw_only=True):
    """What the engine is: for logs, `/health` and `lockgate doctor`. `pid` is its process."""

    engine: str
    version: str
    device: str
    num_threads: int = 0
    load_seconds: float = 0.0
    pid: int = 0


class DiskUsage(Struct, frozen=True, array_like=True, gc=False):
    """What became of prefixes on disk since the last report.

    `num_hit_tokens` were read back instead of computed; `num_read_bytes` and `num_written_bytes`
    are those of keys and values. `num_dropped` blocks were not written because the disk was too
    slow, and `num_errors` could not be read or written, or were damaged. `num_bytes` is what all
    models' blocks take now.
    """

    num_hit_tokens: int = 0
    num_read_bytes: int = 0
    num_written_bytes: int = 0
    num_dropped: int = 0
    num_errors: int = 0
    num_bytes: int = 0


class EngineUsage(Struct, frozen=True, array_like=True, gc=False):
    """What an engine reports after a step: what it counted since its last report, and what it uses.

    `num_prompt_tokens` and `num_generation_tokens` were computed, and `num_cached_tokens` are
    prompt tokens that admitted requests found in the KV cache. `num_preempted` counts sequences.
    `num_accepted_tokens` are those of the `num_draft_tokens` of speculation that the model
    accepted. `num_trials_killed` counts processes that ended while they compiled a grammar.
    `num_compiling` and `num_to_compile` are the grammars that are compiled now and that wait for
    it, wanted or not. `kv_cache_usage` is the share of KV cells that running sequences hold.
    `prefix_cache_usage` is the used share of the memory for idle prefixes. Both are 0 to 1.
    `num_cached_tokens` includes those that `disk` has read back.
    """

    num_prompt_tokens: int = 0
    num_generation_tokens: int = 0
    num_cached_tokens: int = 0
    num_preempted: int = 0
    kv_cache_usage: float = 0.0
    prefix_cache_usage: float = 0.0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_trials_killed: int = 0
    num_compiling: int = 0
    num_to_compile: int = 0
    disk: DiskUsage = DiskUsage()


class EngineStats(Struct, frozen=True, array_like=True, gc=False):
    """The state after a step. Times in seconds, counts in requests.

    `num_waiting` includes the `num_waiting_preempted` requests that have run before. The
    `num_preparing` requests wait outside the queue for their grammar. `num_resumed` requests were
    admitted again after preemption; it counts this step alone, and so do the counts of `usage`,
    whose `num_prompt_tokens` includes the tokens of embedding requests.
    """

    num_running: int = 0
    num_waiting: int = 0
    step_seconds: float = 0.0
    num_preparing: int = 0
    num_waiting_preempted: int = 0
    num_resumed: int = 0
    usage: EngineUsage = EngineUsage()
