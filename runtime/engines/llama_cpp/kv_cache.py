"""Who holds how many cells of llama.cpp's KV cache, and under which slot."""

from typing import Protocol

from runtime.engines.llama_cpp.sequence import NO_SLOT, Sequence


class Memory(Protocol):
    """The real cells, which belong to llama.cpp."""

    def remove(self, slot: int) -> None:
        """Free all cells of a slot."""
        ...


class KVCache:
    """Cells and slots. held + free is always `num_cells`; a slot belongs to one sequence.

    A sequence holds cells for every token that it knows, from the moment it is let in: a prompt
    that has been admitted can always be read to its end.
    """

    def __init__(self, memory: Memory, *, num_cells: int, num_slots: int) -> None:
        self.num_cells = num_cells
        self._memory = memory
        self._held: dict[int, int] = {}
        self._free_slots = list(range(num_slots - 1, -1, -1))
        self._num_held = 0

    @property
    def num_free(self) -> int:
        return self.num_cells - self._num_held

    @property
    def usage(self) -> float:
        """Share of cells that are held, 0 to 1."""
        return self._num_held / self.num_cells

    def can_allocate(self, num_tokens: int) -> bool:
        """Whether a sequence of so many tokens can be let in and get one more token."""
        return bool(self._free_slots) and num_tokens + 1 <= self.num_free

    def allocate(self, sequence: Sequence) -> None:
        """Give the sequence a slot and cells for the tokens that it knows."""
        assert sequence.slot == NO_SLOT, "a sequence got a second slot: this is a bug"
        sequence.slot = self._free_slots.pop()
        self._held[sequence.slot] = 0
        self.grow(sequence, sequence.num_tokens)

    def grow(self, sequence: Sequence, num_tokens: int = 1) -> None:
        """Give the sequence more cells; the caller has made sure that they are there."""
        assert num_tokens <= self.num_free, "cells were handed out twice: this is a bug"
        self._held[sequence.slot] += num_tokens
        self._num_held += num_tokens

    def has_cells_for(self, sequence: Sequence) -> bool:
        """Whether every token that the sequence knows has a cell."""
        return self._held[sequence.slot] >= sequence.num_tokens

    def free(self, sequence: Sequence) -> None:
        """Take back the slot and all cells of the sequence."""
        self._memory.remove(sequence.slot)
        self._num_held -= self._held.pop(sequence.slot)
        self._free_slots.append(sequence.slot)
        sequence.slot = NO_SLOT
        sequence.num_computed_tokens = 0

    def check_integrity(self) -> None:
        """Raise AssertionError when the books do not add up."""
        assert self._num_held == sum(self._held.values()), "held cells do not add up"
        assert 0 <= self._num_held <= self.num_cells, "more cells held than there are"
        assert not set(self._held) & set(self._free_slots), "a slot is both held and free"
