"""One tensor of the target checkpoint, as an architecture's table describes it."""

from math import prod

from msgspec import Struct


class Weight(Struct, frozen=True, kw_only=True):
    """Where a tensor comes from and what must happen to its values.

    `name` is Hugging Face's, `source` the one in the source; `shape` is numpy's, rows first. Only a
    `linear` weight may be quantized. Members of one `group` are fused by the loader, so that they
    share a precision and, in FP8, a scale. With a `head_dim`, the rows of each head are stored in
    pairs (0, d/2, 1, d/2 + 1, …) and must be sorted back. `shift` is added to each value. The rows
    of an expert begin at `first_row` of the source, where all experts of a layer are one tensor.
    `has_levels` says that it is stored in four bits, and that int4 shall keep its levels.
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
        """A vector is one row."""
        return prod(self.shape[:-1])

    @property
    def experts(self) -> str:
        """The module that has this expert, "model.layers.0.mlp.experts", or "" for other weights.

        The loader makes one layer of all its experts, so that they share a precision.
        """
        before, found, _ = self.name.partition(".experts.")
        return f"{before}.experts" if found else ""
