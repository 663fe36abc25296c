"""One tensor of the target checkpoint, as an architecture's table describes it."""

from math import prod

from msgspec import Struct


class Weight(Struct, frozen=True, kw_only=True):
    """One tensor of the target: its source, and the changes to its values.

    `name` is Hugging Face's name of the tensor, `source` the source's; `shape` is numpy's, rows
    first. Only a `linear` weight may be quantized. The loader fuses the members of one `group`, so
    that they share a precision and, in FP8, a scale. With a `head_dim`, the source stores the rows
    of each head in pairs (0, d/2, 1, d/2 + 1, …), and they must be sorted back. `shift` is added to
    each value. An expert's rows begin at `first_row` if the source has all experts of a layer in
    one tensor. `has_levels` says that the source stores the weight in four bits and that int4 keeps
    its levels.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    linear: bool = False
    group: str = ""
    head_dim: int = 0
    shift: float = 0.0
    first_row: int = 0
    has_levels: bool = False

    @property
    def module(self) -> str:
        """The name without its last part: "model.layers.0.mlp.up_proj"."""
        return self.name.rpartition(".")[0]

    @property
    def num_rows(self) -> int:
        """The number of rows; a vector is one row."""
        return prod(self.shape[:-1])

    @property
    def experts(self) -> str:
        """The module with this expert, "model.layers.0.mlp.experts"; "" for other weights.

        The loader fuses all experts of a module into one layer, so that they share a precision.
        """
        before, found, _ = self.name.partition(".experts.")
        return f"{before}.experts" if found else ""
