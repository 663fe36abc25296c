"""What a block on disk is found by: a hash of all that its keys and values follow from."""

import hashlib
import struct
from collections.abc import Sequence

KEY_BYTES = 32


def block_keys(
    identity: bytes, salt: str, token_ids: Sequence[int], block_tokens: int
) -> list[bytes]:
    """The keys of the full blocks that `token_ids` begin with, in order.

    A key stands for the tokens of its block and all tokens before them, for the salt of the
    request, and for `identity`, which is that of the model and of what computes it. Each key is a
    hash over the key before it, so equal keys mean equal prefixes.
    """
    key = _hash(identity + salt.encode("utf-8", "surrogatepass"))
    keys: list[bytes] = []
    for end in range(block_tokens, len(token_ids) + 1, block_tokens):
        block = token_ids[end - block_tokens : end]
        key = _hash(key + struct.pack(f"<{block_tokens}i", *block))
        keys.append(key)
    return keys


def _hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=KEY_BYTES).digest()
