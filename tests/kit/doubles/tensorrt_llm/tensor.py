"""The little of a tensor that a logits processor needs, on numpy; torch itself where it is there.

The package needs torch, this double does not. `as_float_tensor` takes what callers pass as
`embedding_bias`: a torch tensor, an array or a list.
"""

from typing import Any

import numpy as np

try:
    import torch
except ModuleNotFoundError:
    torch = None


class Tensor:
    """A float32 array with the names that torch gives its operations. Slices are views."""

    __slots__ = ("_array",)

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> str:
        return f"torch.{self._array.dtype}"

    @property
    def is_cuda(self) -> bool:
        return False

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def numpy(self) -> np.ndarray:
        """The array itself: to change it is to change the tensor."""
        return self._array

    def tolist(self) -> Any:
        return self._array.tolist()

    def item(self) -> float:
        return float(self._array.item())

    def add_(self, other: Any) -> "Tensor":
        self._array += _plain(other)
        return self

    def mul_(self, other: Any) -> "Tensor":
        self._array *= _plain(other)
        return self

    def copy_(self, other: Any) -> "Tensor":
        self._array[...] = _plain(other)
        return self

    def fill_(self, value: float) -> "Tensor":
        self._array.fill(value)
        return self

    def __getitem__(self, key: Any) -> Any:
        return Tensor(np.asarray(self._array[_plain(key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[_plain(key)] = _plain(value)

    def __iadd__(self, other: Any) -> "Tensor":
        return self.add_(other)

    def __isub__(self, other: Any) -> "Tensor":
        self._array -= _plain(other)
        return self

    def __imul__(self, other: Any) -> "Tensor":
        return self.mul_(other)

    def __itruediv__(self, other: Any) -> "Tensor":
        self._array /= _plain(other)
        return self

    def __len__(self) -> int:
        return len(self._array)

    def __float__(self) -> float:
        return self.item()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array if dtype is None else self._array.astype(dtype)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(part) for part in value)
    return value._array if isinstance(value, Tensor) else value


def as_float_tensor(values: Any) -> Any:
    """A float32 tensor of a list, an array or a tensor."""
    if torch is not None:
        return torch.as_tensor(values, dtype=torch.float32)
    return Tensor(np.array(values, dtype=np.float32))


def as_array(tensor: Any) -> np.ndarray:
    """The numbers of a tensor of either kind."""
    return np.asarray(tensor.numpy(), dtype=np.float32)


def logits_tensor(array: np.ndarray) -> Any:
    """A tensor of shape [1, 1, vocab] that shares the memory of `array`."""
    shaped = array.reshape(1, 1, -1)
    return torch.from_numpy(shaped) if torch is not None else Tensor(shaped)
