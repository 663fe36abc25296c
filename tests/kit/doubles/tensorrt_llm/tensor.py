"""The little of a tensor that a logits processor needs, on numpy; torch itself where it is there.

The package needs torch, this double does not.
"""

from typing import Any

import numpy as np

try:
    import torch
except ModuleNotFoundError:
    torch = None


class Tensor:
    """An array on the CPU, with the names that torch gives its shape and its numbers."""

    __slots__ = ("_array",)

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    def numpy(self) -> np.ndarray:
        """The array itself: to change it is to change the tensor."""
        return self._array


def logits_tensor(array: np.ndarray) -> Any:
    """A tensor of shape [1, 1, vocab] that shares the memory of `array`."""
    shaped = array.reshape(1, 1, -1)
    return torch.from_numpy(shaped) if torch is not None else Tensor(shaped)
