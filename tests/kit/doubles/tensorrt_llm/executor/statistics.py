"""One record of `get_stats`, with the keys that the engine writes."""

import time
from typing import Any

from .messages import WorkerConfig
from .prefix_cache import PrefixCache


def iteration_record(
    config: WorkerConfig,
    *,
    iteration: int,
    latency: float,
    running: list[Any],
    num_queued: int,
    num_completed: int,
    num_context: int,
    num_context_tokens: int,
    num_generating: int,
    num_reserved: int,
    tokens_per_step: int,
    cache: PrefixCache,
) -> dict[str, Any]:
    """`latency` in seconds; the record has milliseconds."""
    record = {
        "timestamp": time.strftime("%m-%d-%Y %H:%M:%S"),
        "iter": iteration,
        "iterLatencyMS": latency * 1000,
        "newActiveRequestsQueueLatencyMS": 0.0,
        "numNewActiveRequests": num_context,
        "numActiveRequests": len(running),
        "numQueuedRequests": num_queued,
        "numCompletedRequests": num_completed,
        "maxNumActiveRequests": config.max_batch_size,
        "maxBatchSizeStatic": config.max_batch_size,
        "maxBatchSizeTunerRecommended": 0,
        "maxBatchSizeRuntime": config.max_batch_size,
        "maxNumTokensStatic": config.max_num_tokens,
        "maxNumTokensTunerRecommended": 0,
        "maxNumTokensRuntime": config.max_num_tokens,
        "gpuMemUsage": 0,
        "cpuMemUsage": 0,
        "pinnedMemUsage": 0,
        "kvCacheStats": _kv_cache(config, num_reserved, cache),
        "inflightBatchingStats": {
            "numScheduledRequests": num_context + num_generating,
            "numContextRequests": num_context,
            "numGenRequests": num_generating,
            "numPausedRequests": 0,
            "numCtxTokens": num_context_tokens,
            "microBatchId": 0,
            "avgNumDecodedTokensPerIter": float(tokens_per_step if num_generating else 0),
        },
    }
    if tokens_per_step > 1:
        record["specDecodingStats"] = {
            "numDraftTokens": (tokens_per_step - 1) * num_generating,
            "numAcceptedTokens": (tokens_per_step - 1) * num_generating,
            "acceptanceLength": float(tokens_per_step),
        }
    if config.request_stats:
        record["requestStats"] = [{"id": s.request.client_id} for s in running]
    return record


def _kv_cache(config: WorkerConfig, num_reserved: int, cache: PrefixCache) -> dict[str, Any]:
    used = min(cache.num_blocks, -(-num_reserved // config.tokens_per_block))
    looked_up = cache.num_reused + cache.num_missed
    return {
        "maxNumBlocks": cache.num_blocks,
        "freeNumBlocks": cache.num_blocks - used,
        "usedNumBlocks": used,
        "tokensPerBlock": config.tokens_per_block,
        "allocTotalBlocks": cache.num_missed,
        "allocNewBlocks": cache.num_missed,
        "reusedBlocks": cache.num_reused,
        "missedBlocks": cache.num_missed,
        "cacheHitRate": cache.num_reused / looked_up if looked_up else 0.0,
    }
