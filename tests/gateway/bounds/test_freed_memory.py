"""The memory that large requests have freed, in processes whose heaps are their own."""

import json
import subprocess
import sys

import psutil
import pytest

from gateway.bounds.freed_memory import give_freed_memory_back, map_large_blocks
from tests.kit.root import ROOT

SIZES = (30_000_000, 20_000_000, 10_000_000)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")


def test_blocks_of_many_sizes_leave_nothing_behind():
    for size, growth in zip(SIZES, in_a_process("growths"), strict=True):
        assert growth < size, "no heap has room for it"


def test_what_a_hole_in_a_heap_has_taken_is_given_back():
    """A block goes where many small ones were, and the heap keeps that until it is trimmed."""
    growth, left = in_a_process("growth_in_a_hole")
    assert growth > 19_000_000, "it lies in the hole"
    assert left < 5_000_000


def in_a_process(name: str) -> list[int]:
    """What the function of that name below returns."""
    code = f"import json; from {__name__} import {name} as measure; print(json.dumps(measure()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    numbers: list[int] = json.loads(done.stdout)
    return numbers


def growths() -> list[int]:
    """By how many bytes the process has grown after blocks of each size were freed."""
    map_large_blocks()
    give_freed_memory_back()
    before, found, kept = resident(), [], []
    for size in SIZES:
        blocks = [b"a" * size for _ in range(3)]
        kept.append([bytes(500) for _ in range(100)])
        del blocks
        found.append(resident() - before)
    return found


def growth_in_a_hole() -> list[int]:
    """The same of one block, and what is left of it when freed memory has been given back."""
    hole = [bytes(100_000) for _ in range(250)]
    behind = bytes(100_000)
    del hole
    map_large_blocks()
    give_freed_memory_back()
    before = resident()
    block = b"a" * 20_000_000
    del block
    growth = resident() - before
    give_freed_memory_back()
    assert behind
    return [growth, resident() - before]


def resident() -> int:
    return int(psutil.Process().memory_info().rss)
