"""How long a wrong key takes tells nothing of a right one."""

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from gateway.admission.keys import KeyRing, new_key
from tests.kit.api_keys import write_keys

NUM_ROUNDS = 400
CALLS_OF_A_ROUND = 50
MAX_DIFFERENCE = 0.10
"""Share of the time of a look-up. This finds a look-up that does more for a near miss, such as one
that walks along the keys in Python; the nanoseconds of a memcmp are below what it can see."""
MAX_TRIES = 5
"""A busy machine may spoil a try, and never all of them."""


def test_a_wrong_key_that_begins_like_a_right_one_takes_no_longer(tmp_path: Path):
    keys = write_keys(tmp_path / "keys.toml", **{f"k{number}": {} for number in range(50)})
    ring = KeyRing(tmp_path / "keys.toml")
    assert ring.find(keys["k7"].encode()) is not None

    assert _is_alike(ring.find, keys["k7"])


def test_the_measurement_sees_a_look_up_that_walks_along_the_key():
    """Else the other test could not fail."""
    right = new_key().encode()

    def find(key: bytes) -> bool:
        return all(ours == theirs for ours, theirs in zip(right, key, strict=True))

    assert not _is_alike(find, right.decode())


def _is_alike(find: Callable[[bytes], object], right: str) -> bool:
    return any(abs(_difference(find, right)) < MAX_DIFFERENCE for _ in range(MAX_TRIES))


def _difference(find: Callable[[bytes], object], right: str) -> float:
    """Median over rounds of how much longer near misses take, as a share. The two kinds take turns
    in an order by chance, so that what else the machine does meets both."""
    order = random.Random(7)
    near = (right[:-1] + ("A" if right[-1] != "A" else "B")).encode()
    shares = []
    for _ in range(NUM_ROUNDS):
        far = ("x" + new_key()[1:]).encode()
        times = {}
        for key in order.sample([near, far], 2):
            times[key] = _seconds(find, key)
        shares.append(times[near] / times[far] - 1)
    return statistics.median(shares)


def _seconds(find: Callable[[bytes], object], key: bytes) -> float:
    start = time.perf_counter()
    for _ in range(CALLS_OF_A_ROUND):
        find(key)
    return time.perf_counter() - start
