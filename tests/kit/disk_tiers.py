"""Disk tiers in a folder of a test's own, as they are after a start."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.engines.llama_cpp.kv.disk.names import SUFFIX
from runtime.engines.llama_cpp.kv.disk.store import BlockStore
from runtime.engines.llama_cpp.kv.disk.sweep import Limits
from runtime.engines.llama_cpp.kv.disk.tier import DiskTier

MODEL = b"m" * 32
"""What stands for the model of these tests."""

WITHOUT_LIMITS = Limits(max_bytes=1_000_000_000, max_seconds=0)
PATIENCE = 20.0
"""Seconds until a write that should take milliseconds counts as never coming."""


@contextmanager
def disk_tier(
    folder: Path,
    *,
    block_tokens: int = 4,
    identity: bytes = MODEL,
    limits: Limits = WITHOUT_LIMITS,
    max_queued_bytes: int = 1_000_000,
    store: BlockStore | None = None,
) -> Iterator[DiskTier]:
    """The tier of a process; at the end all is written, as if the process had run on a while."""
    store = store or BlockStore(folder, identity, limits)
    tier = DiskTier(store, identity, block_tokens=block_tokens, max_queued_bytes=max_queued_bytes)
    try:
        yield tier
        assert tier.flush(PATIENCE), "it does not get done with writing"
    finally:
        tier.close()


def block_files(folder: Path) -> list[Path]:
    """The files of all blocks under a folder; not those that are being written."""
    return sorted(folder.rglob(f"*{SUFFIX}"))
