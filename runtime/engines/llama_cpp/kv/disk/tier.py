"""The tier below the copies in memory: blocks that outlive the process."""

from runtime.engines.llama_cpp.kv.disk.block_key import block_keys
from runtime.engines.llama_cpp.kv.disk.reader import BlockReader
from runtime.engines.llama_cpp.kv.disk.restoring import Restoring
from runtime.engines.llama_cpp.kv.disk.store import BlockStore
from runtime.engines.llama_cpp.kv.disk.writer import BlockWriter
from runtime.engines.llama_cpp.sequence import Sequence
from runtime.messages.engine import DiskUsage

FLUSH_SECONDS = 1.5
"""How long the end of the engine waits for blocks that are still to be written."""

WAIT_SECONDS = 0.005
"""How long a step without work waits for the disk, before it looks for messages."""


class DiskTier:
    """Full blocks of prefixes, in the files of `store`. No method waits for the disk but `wait` and
    `close`, for as long as they say.

    A block covers `block_tokens` tokens from a multiple of that number on. `identity` stands for
    the model and for what computes it. At most `max_queued_bytes` wait to be written.
    """

    def __init__(
        self, store: BlockStore, identity: bytes, *, block_tokens: int, max_queued_bytes: int
    ) -> None:
        self._store = store
        self._identity = identity
        self._block_tokens = block_tokens
        self._writer = BlockWriter(store, max_queued_bytes)
        reader = BlockReader(store)
        self.restoring = Restoring(reader, block_tokens)
        self._reader = reader
        self._num_hit_tokens = 0

    def begin(self, sequence: Sequence, end: int) -> None:
        """Look for blocks of a sequence's first `end` tokens that are not computed yet, and have
        them read."""
        computed = sequence.num_computed_tokens
        if end - computed >= self._block_tokens // 2:  # or else computing is as fast
            missing = [
                each
                for each in self._blocks(sequence, end)
                if each[0] + self._block_tokens > computed
            ]
            self.restoring.begin(sequence, [each for each in missing if self._store.has(each[1])])

    def unwritten(self, sequence: Sequence) -> list[tuple[int, bytes]]:
        """The full blocks of what a sequence has computed, as (start, key), that are to be written.
        It is noted that the others were used."""
        blocks = self._blocks(sequence, sequence.num_computed_tokens)
        for _, key in reversed(blocks):  # the end of a prefix is forgotten before its beginning
            self._writer.touch(key)
        return [each for each in blocks if self._writer.takes(each[1])]

    def write(self, key: bytes, data: bytes) -> None:
        """Have a block written."""
        self._writer.write(key, data)

    def discard(self, key: bytes) -> None:
        """A block that was read cannot be used."""
        self._store.discard(key)

    def count_hit(self, num_tokens: int) -> None:
        """Tokens were read back instead of computed."""
        self._num_hit_tokens += num_tokens

    def wait(self) -> None:
        """Wait for a block, if a sequence does."""
        if self.restoring.sequences():
            self._reader.wait(WAIT_SECONDS)

    def take_usage(self) -> DiskUsage:
        """What happened since the last call."""
        counts = self._store.take_counts()
        num_hit_tokens, self._num_hit_tokens = self._num_hit_tokens, 0
        return DiskUsage(
            num_hit_tokens=num_hit_tokens,
            num_read_bytes=counts.read_bytes,
            num_written_bytes=counts.written_bytes,
            num_dropped=self._writer.take_num_dropped(),
            num_errors=counts.num_errors,
            num_bytes=counts.num_bytes,
        )

    def close(self) -> None:
        """Give what is to be written a moment, and end the threads."""
        self._writer.close(FLUSH_SECONDS)
        self._reader.close()

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, for so long at most. Whether it is."""
        return self._writer.flush(seconds)

    def _blocks(self, sequence: Sequence, end: int) -> list[tuple[int, bytes]]:
        """The full blocks among a sequence's first `end` tokens, as (start, key)."""
        tokens, size = sequence.token_ids[:end], self._block_tokens
        keys = block_keys(self._identity, sequence.cache_salt, tokens, size)
        return [(number * size, key) for number, key in enumerate(keys)]
