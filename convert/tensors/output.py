"""A tensor of the checkpoint that has not been computed yet."""

from msgspec import Struct

ITEM_SIZES = {"F32": 4, "I32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I8": 1, "U8": 1}


class Output(Struct, frozen=True):
    """One tensor of the target. `dtype` is safetensors' name of the type."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        count = ITEM_SIZES[self.dtype]
        for size in self.shape:
            count *= size
        return count
