"""The time that a key takes to be refused tells nothing about the keys that there are."""

import random
import statistics
import time

from gateway.keys import KeyRing, open_key_ring
from gateway.settings import AuthSettings
from tests.api_keys import write_keys

NUM_ROUNDS = 3000
NOISE = 0.05
"""As a share: two medians of the same thing stay well within it, also on a busy machine."""


def test_a_nearly_right_key_takes_as_long_as_a_wrong_one(tmp_path):
    """Medians of calls in a random order, without a network. It sees a search that goes from key to
    key or from character to character; what the keyed hash hides, it cannot see."""
    file = tmp_path / "keys.toml"
    keys = write_keys(file, **{f"user-{number}": {} for number in range(50)})
    ring = open_key_ring(AuthSettings(keys_file=str(file)), {})
    right = keys["user-0"].encode()
    candidates = {
        "right": right,
        "last character": right[:-1] + bytes((right[-1] ^ 1,)),
        "first character": bytes((right[0] ^ 1,)) + right[1:],
        "nothing alike": bytes(reversed(right)),
    }
    assert ring.find(right) is not None
    assert all(ring.find(key) is None for name, key in candidates.items() if name != "right")

    medians = measure(ring, candidates)

    wrong = [seconds for name, seconds in medians.items() if name != "right"]
    assert max(wrong) <= min(wrong) * (1 + NOISE), medians


def measure(ring: KeyRing, candidates: dict[str, bytes]) -> dict[str, float]:
    """Median seconds of a look-up, the candidates in turns."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates.items())
    for _ in range(NUM_ROUNDS):
        random.shuffle(order)
        for name, key in order:
            started = time.perf_counter()
            ring.find(key)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}
