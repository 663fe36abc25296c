"""The package's KV cache usage and speculation counts, as far as it reports them."""

import threading
from collections.abc import Sequence
from typing import Any

import structlog
from msgspec import Struct

log = structlog.get_logger(__name__)

READ_SECONDS = 2.0
"""Seconds between two readings, and the longest wait of a reading for a record."""


class KvUsage(Struct, frozen=True):
    """`num_tokens` is the cache's size in tokens, 0 if unknown; `usage` is 0 to 1."""

    num_tokens: int = 0
    usage: float = 0.0


class SpecCounts(Struct, frozen=True):
    """Tokens that were drafted, and those of them that the model accepted."""

    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0


class KvStatsReader:
    """Reads the package's statistics in a thread of its own.

    The thread is needed because the call may block. There is only one, because the package gives
    out each record once (docs/tensorrt-llm-contract.md, 6.1). With a release that gives out none,
    the values stay 0.
    """

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._stopped = threading.Event()
        self.latest = KvUsage()
        self.spec_counts = SpecCounts()
        threading.Thread(target=self._read, name="kv-stats", daemon=True).start()

    def stop(self) -> None:
        """Stops reading. Does not wait for a reading that has begun."""
        self._stopped.set()

    def _read(self) -> None:
        while not self._stopped.wait(READ_SECONDS):
            try:
                records = self._llm.get_stats(timeout=READ_SECONDS)
            except Exception as error:
                if not self._stopped.is_set():  # else the error comes from shutting down
                    # Statistics are beta in the package, and answers do not depend on them.
                    log.warning("kv_stats_end", error=f"{type(error).__name__}: {error}")
                return
            if records:
                self.latest = _usage(records[-1]) or self.latest
                self.spec_counts = _add_spec(self.spec_counts, records)


def _usage(record: dict[str, Any]) -> KvUsage | None:
    """The share of blocks in use; any key may be missing (docs/tensorrt-llm-contract.md, 6.2)."""
    stats = record.get("kvCacheStats") or {}
    num_blocks = stats.get("maxNumBlocks") or 0
    if not num_blocks:
        return None
    used = stats.get("usedNumBlocks") or 0
    return KvUsage(num_blocks * (stats.get("tokensPerBlock") or 0), min(used / num_blocks, 1.0))


def _add_spec(counts: SpecCounts, records: Sequence[dict[str, Any]]) -> SpecCounts:
    """Adds the counts of the records; each record covers one iteration."""
    stats = [record.get("specDecodingStats") or {} for record in records]
    return SpecCounts(
        counts.num_draft_tokens + sum(item.get("numDraftTokens") or 0 for item in stats),
        counts.num_accepted_tokens + sum(item.get("numAcceptedTokens") or 0 for item in stats),
    )
