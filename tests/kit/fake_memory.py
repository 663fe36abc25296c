"""llama.cpp's KV memory without llama.cpp: cells that know what they hold and who has them."""

from collections.abc import Sequence as SequenceOf

import msgspec

from runtime.engines.llama_cpp.kv.prefix_tree import Block


class FakeMemory:
    """A cell is a (position, token) and the slots that have it; one without slots is gone. What it
    saves are the tokens, so that a copy that is loaded at the wrong place is found out."""

    def __init__(self, num_cells: int) -> None:
        self.num_cells = num_cells
        self._cells: list[tuple[int, int, set[int]]] = []

    @property
    def num_used(self) -> int:
        return len(self._cells)

    def remove(self, slot: int) -> None:
        for _, _, slots in self._cells:
            slots.discard(slot)
        self._cells = [cell for cell in self._cells if cell[2]]

    def share(self, source: int, target: int, start: int, end: int) -> None:
        assert len(self.tokens(source)) >= end, "what is not there cannot be shared"
        assert len(self.tokens(target)) == start, "positions of a slot are consecutive"
        for position, _, slots in self._cells:
            if start <= position < end and source in slots:
                slots.add(target)

    def save(self, slot: int, start: int, end: int) -> bytes:
        tokens = self.tokens(slot)
        assert len(tokens) >= end, "what is not there cannot be saved"
        return msgspec.json.encode(tokens[start:end])

    def load(self, slot: int, block: Block, start: int, end: int) -> None:
        tokens = msgspec.json.decode(block.data)
        assert len(tokens) == block.end - block.start
        assert block.start <= start < end <= block.end
        assert self.num_used + len(tokens) <= self.num_cells, "a block is loaded whole"
        self.write([slot], start, tokens[start - block.start : end - block.start])

    def write(self, slots: SequenceOf[int], position: int, tokens: SequenceOf[int]) -> None:
        """What a decoded chunk leaves behind. A position follows the last one of each slot."""
        for slot in slots:
            assert len(self.tokens(slot)) == position, "positions of a slot are consecutive"
        for offset, token in enumerate(tokens):
            self._cells.append((position + offset, token, set(slots)))
        assert len(self._cells) <= self.num_cells, "llama.cpp has no cell left"

    def tokens(self, slot: int) -> list[int]:
        """What a slot has, which must be one cell for each position from 0 on."""
        mine = sorted((position, token) for position, token, slots in self._cells if slot in slots)
        assert [position for position, _ in mine] == list(range(len(mine))), "a gap or a double"
        return [token for _, token in mine]
