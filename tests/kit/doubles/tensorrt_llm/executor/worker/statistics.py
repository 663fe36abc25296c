"""One record of `get_stats`, with keys that the engine writes."""

from typing import Any

from ..messages import WorkerConfig
from .prefix_cache import PrefixCache


def iteration_record(
    config: WorkerConfig,
    *,
    iteration: int,
    num_scheduled: int,
    num_generating: int,
    num_reserved: int,
    num_paused: int,
    tokens_per_step: int,
    cache: PrefixCache,
) -> dict[str, Any]:
    used = min(cache.num_blocks, -(-num_reserved // config.tokens_per_block))
    record = {
        "iter": iteration,
        "kvCacheStats": {
            "maxNumBlocks": cache.num_blocks,
            "freeNumBlocks": cache.num_blocks - used,
            "usedNumBlocks": used,
            "tokensPerBlock": config.tokens_per_block,
        },
        "inflightBatchingStats": {
            "numScheduledRequests": num_scheduled,
            "numPausedRequests": num_paused,
        },
    }
    if tokens_per_step > 1:
        num_drafted = (tokens_per_step - 1) * num_generating
        record["specDecodingStats"] = {
            "numDraftTokens": num_drafted,
            "numAcceptedTokens": num_drafted,
        }
    return record
