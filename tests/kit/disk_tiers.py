"""Disk tiers in a folder of a test's own, as they are after a start."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.engines.llama_cpp.kv.disk.store import BlockStore
from runtime.engines.llama_cpp.kv.disk.sweep import Limits
from runtime.engines.llama_cpp.kv.disk.tier import DiskTier

WITHOUT_LIMITS = Limits(max_bytes=1_000_000_000, max_seconds=0)
PATIENCE = 20.0
"""Seconds until a write that should take milliseconds counts as never coming."""


@contextmanager
def disk_tier(
    folder: Path,
    *,
    block_tokens: int = 4,
    identity: bytes = b"model",
    limits: Limits = WITHOUT_LIMITS,
    max_queued_bytes: int = 1_000_000,
    store: BlockStore | None = None,
) -> Iterator[DiskTier]:
    """The tier of a process; at the end all is written, as if the process had run on a while."""
    store = store or BlockStore(folder, identity.hex(), limits)
    tier = DiskTier(store, identity, block_tokens=block_tokens, max_queued_bytes=max_queued_bytes)
    try:
        yield tier
        assert tier.flush(PATIENCE), "it does not get done with writing"
    finally:
        tier.close()


def block_files(folder: Path) -> list[Path]:
    """All files under a folder of blocks, finished or not."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
