"""The room in the package's KV cache, as far as its size is known."""

from collections.abc import Iterable
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from runtime.config.engine import EngineConfig
from runtime.engines.tensorrt_llm.kv_stats import KvStatsReader

log = structlog.get_logger(__name__)

BLOCK_TOKENS = 32
"""Tokens in a block of the KV cache: the package's default (docs/tensorrt-llm-contract.md, 5.1)."""


class KvCapacity(
    Struct, frozen=True, rename={"num_tokens": "maxNumTokens", "block": "tokensPerBlock"}
):
    """The size of the KV cache on the GPU in tokens, 0 if unknown, and the tokens of a block."""

    num_tokens: int = 0
    block: int = BLOCK_TOKENS


def read_capacity(llm: Any) -> KvCapacity:
    """The capacity as the package reports it once the model is loaded: releases since about the
    middle of 2026 do (docs/tensorrt-llm-contract.md, 6.6)."""
    if not hasattr(llm, "get_kv_cache_capacity"):
        return KvCapacity()
    try:
        return msgspec.convert(llm.get_kv_cache_capacity(), KvCapacity)
    except Exception as error:  # beta in the package; without it the statistics tell the size later
        log.warning("kv_capacity_unknown", error=f"{type(error).__name__}: {error}")
        return KvCapacity()


class KvRoom:
    """Counts tokens as the package does: in whole blocks, for prompts and whole answers."""

    def __init__(self, config: EngineConfig, capacity: KvCapacity, stats: KvStatsReader) -> None:
        wanted = 0 if config.num_kv_tokens == "auto" else config.num_kv_tokens
        cache = config.tensorrt_llm.kv_cache
        self.num_tokens = capacity.num_tokens or wanted
        self._stats = stats
        self._block = capacity.block or BLOCK_TOKENS
        self._has_windows = bool(cache.max_attention_window)
        self._pauses = config.tensorrt_llm.scheduler_policy == "MAX_UTILIZATION"

    def longest(self, max_model_len: int) -> int:
        """The longest sequence that the cache can hold: the package would let a longer one wait for
        ever. With windows a sequence may be longer than the cache."""
        most = self.num_tokens // self._block * self._block
        if not most or self._has_windows or most >= max_model_len:
            return max_model_len
        log.warning(
            "context_limited_by_kv_cache",
            max_model_len=max_model_len,
            num_kv_tokens=self.num_tokens,
            hint="give the KV cache more memory, or lower engine.max_model_len",
        )
        return most

    def fits(self, num_tokens: int, reserved: Iterable[int]) -> bool:
        """Whether `num_tokens` of a request fit beside what is reserved for others. Always True if
        the size is unknown, and with MAX_UTILIZATION: that policy keeps no room for answers and
        decides by itself."""
        size = self.num_tokens or self._stats.latest.num_tokens
        if not size or self._pauses:
            return True
        return sum(self._whole(number) for number in (num_tokens, *reserved)) <= size

    def _whole(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block) * self._block
