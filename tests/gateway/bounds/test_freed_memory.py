"""The memory that large requests have freed."""

import sys

import psutil
import pytest

from gateway.bounds.freed_memory import give_freed_memory_back, map_large_blocks


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
def test_blocks_of_many_sizes_leave_nothing_behind():
    map_large_blocks()
    give_freed_memory_back()
    before = psutil.Process().memory_info().rss
    for size in (30_000_000, 20_000_000, 10_000_000):
        blocks = [b"a" * size for _ in range(3)]
        kept = [bytes(500) for _ in range(100)]
        del blocks
        assert psutil.Process().memory_info().rss - before < size, "no heap has room for it"
        assert kept
