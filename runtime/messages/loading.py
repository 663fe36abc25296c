"""What an engine waits for before it is ready."""

from typing import Literal, Protocol

LoadPhase = Literal["model_file", "process", "tokenizer", "library", "weights", "engine", "warm_up"]
"""The file of the weights is checked, the process starts, the tokenizer is read, the engine's
library is loaded, the weights are read, the library builds its engine (weights, kernels and memory
in one call that says nothing in between), the first tokens are computed."""


class Announce(Protocol):
    """Tells of the phase that begins, or of the share of it that is done, 0 to 1."""

    def __call__(self, phase: LoadPhase, fraction: float | None = None) -> None: ...


def tell_nobody(phase: LoadPhase, fraction: float | None = None) -> None:
    """An `Announce` for engines that nobody waits for."""
