"""The likeliest tokens, without sorting the vocabulary."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
TokenIds: TypeAlias = npt.NDArray[np.intp]

GROUP = 64
"""Into how many slices the vocabulary is laid for the search; a group is one of each."""


def top_token_ids(logits: Floats, top_k: int) -> TokenIds:
    """The ids of the `top_k` largest logits, largest first, equal ones by id. Only tokens are
    sorted that reach the `top_k`-th largest group maximum; at least `top_k` tokens reach it."""
    group_maxima = logits[: logits.size // GROUP * GROUP].reshape(GROUP, -1).max(axis=0)
    if top_k < group_maxima.size:
        token_ids = np.flatnonzero(logits >= np.partition(group_maxima, -top_k)[-top_k])
    else:
        token_ids = np.arange(logits.size)
    return token_ids[np.argsort(-logits[token_ids], kind="stable")][:top_k]
