"""The disk tier of a model that is loaded: where its files are, and for what they are good."""

import hashlib
import json
import os
import stat
import sys
from pathlib import Path

import structlog

from runtime.config.engine import EngineConfig
from runtime.engines.llama_cpp.kv.disk.store import BlockStore
from runtime.engines.llama_cpp.kv.disk.sweep import DAY, Limits
from runtime.engines.llama_cpp.kv.disk.tier import DiskTier
from runtime.models.integrity.digest import sample
from runtime.models.integrity.marks import marked, state_of

log = structlog.get_logger(__name__)

MIN_QUEUED_BYTES = 32_000_000
MAX_QUEUED_BYTES = 256_000_000

FORMAT = 1
"""Changes when blocks of earlier releases mean something else."""


def open_tier(
    config: EngineConfig,
    model_path: str,
    computation: list[object],
    *,
    block_tokens: int,
    memory_bytes: int,
) -> DiskTier | None:
    """The blocks that earlier processes have left for this model, and the means to leave more. None
    if the settings want none, or if others could write into the folder.

    `computation` says on what, beside the model's file, keys and values depend. `memory_bytes` is
    the size of the tier above.
    """
    if not config.prefix_cache_folder or config.prefix_cache_disk_gb == 0:
        return None
    base = Path(config.prefix_cache_folder).expanduser()
    if problem := _problem(base):
        log.warning("prefix_cache_disk_unused", folder=str(base), reason=problem)
        return None
    identity = _identity(Path(model_path), [FORMAT, block_tokens, *computation])
    most = config.prefix_cache_disk_gb
    limits = Limits(
        None if most == "auto" else int(most * 1e9), config.prefix_cache_disk_days * DAY
    )
    return DiskTier(
        BlockStore(base, identity, limits),
        identity,
        block_tokens=block_tokens,
        max_queued_bytes=min(max(memory_bytes, MIN_QUEUED_BYTES), MAX_QUEUED_BYTES),
    )


def _problem(base: Path) -> str:
    """Why the folder cannot be trusted; "" if it can, or is not there yet. Whoever may write into
    it chooses what the model takes for its own thoughts."""
    if sys.platform == "win32":
        return ""  # the folders of a user are the user's own there
    try:
        status = base.stat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(error)
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "other users may write into it"
    return ""


def _identity(model: Path, computation: list[object]) -> bytes:
    """A hash of what keys and values depend on beside the tokens. Where the SHA-256 of the model's
    file is not known, its size, its time and pieces of it stand for it."""
    state = state_of(model.stat())
    content = marked(model, state) or [state.size, state.mtime_ns, sample(model)]
    return hashlib.blake2b(json.dumps([content, *computation]).encode(), digest_size=32).digest()
