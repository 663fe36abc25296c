"""Checks one library, which the first argument names, and says on standard output what is wrong.

The library may end this process; whoever started it sees how it ended.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from runtime.errors import LibraryUnusable
from runtime.llama_library.installed import open_library
from runtime.llama_library.library import LlamaLibrary
from runtime.llama_library.results import floats_at
from runtime.llama_library.self_check.reference import Rows, reference_logits
from runtime.llama_library.self_check.tiny import CONTEXT, NUM_VOCAB, WIDTHS, write_model
from runtime.llama_library.token_batch import TokenBatch
from runtime.llama_library.values import ContextOptions, LoadedModel, ModelOptions

TOLERANCE = 0.08
"""Largest distance from the expected logits, as a share of their length. Rounding the activations
to 8 bits makes one of two hundredths."""

_MAX_BATCH = 64


class Wrong(Exception):
    """What the library does wrong, in words that follow its name."""


class _Run:
    """A context in which sequences are read and looked at."""

    def __init__(self, library: LlamaLibrary, model: LoadedModel) -> None:
        self._library = library
        options = ContextOptions(
            num_cells=CONTEXT,
            max_batch=_MAX_BATCH,
            max_rows=_MAX_BATCH,
            max_sequences=4,
            num_threads=1,
        )
        self.context = library.new_context(model, options)
        if not self.context:
            raise Wrong(f"sets up no context: {library.last_messages()}")
        self._batch = TokenBatch(library, max_tokens=_MAX_BATCH, max_ids=2)

    def read(self, *parts: tuple[Sequence[int], int, int]) -> Rows:
        """Compute parts of sequences, each its tokens, their first position and the sequence's id.
        Returns all rows of logits."""
        self._batch.clear()
        for token_ids, position, sequence_id in parts:
            self._batch.put(token_ids, position, (sequence_id,), wanted=True)
        status = self._library.decode(self.context, self._batch.data)
        if status:
            raise Wrong(f"computes nothing, with status {status}")
        addresses = [
            self._library.logits(self.context, row) for row in range(self._batch.num_tokens)
        ]
        return np.stack([floats_at(each, NUM_VOCAB) for each in addresses]).astype(np.float64)


def check(library: LlamaLibrary, options: ModelOptions, width: int) -> None:
    """Raise Wrong when the library computes other logits than it should with weights whose rows
    have `width` values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.gguf"
        weights = write_model(path, width)
        model = library.load_model(str(path), options)
        if model is None:
            raise Wrong(f"does not load a small model: {library.last_messages()}")
        first, second = _texts()
        expected = [reference_logits(weights, each) for each in (first, second)]
        _check_sequences(library, model, (first, second), expected)
        library.free_model(model)


def _texts() -> tuple[list[int], list[int]]:
    random = np.random.default_rng(1)
    first = random.integers(0, NUM_VOCAB, 100).tolist()
    return first, [*first[:20], *random.integers(0, NUM_VOCAB, 60).tolist()]


def _check_sequences(
    library: LlamaLibrary,
    model: LoadedModel,
    texts: tuple[list[int], list[int]],
    expected: Sequence[Rows],
) -> None:
    """A prompt, token after token beside another sequence with the same beginning, and a sequence
    that goes on after a copy of its cells was put back into the place of another one."""
    first, second = texts
    run = _Run(library, model)
    _compare(run.read((first[:48], 0, 0)), expected[0][:48], "a prompt")
    library.copy(run.context, 0, 1, 0, 20)
    _compare(run.read((second[20:60], 20, 1)), expected[1][20:60], "a shared prefix")
    for position in range(48, 52):
        rows = run.read(
            (first[position : position + 1], position, 0),
            (second[position + 12 : position + 13], position + 12, 1),
        )
        _compare(rows[:1], expected[0][position : position + 1], "two sequences at once")
        _compare(rows[1:], expected[1][position + 12 : position + 13], "two sequences at once")
    kept = library.save(run.context, 1)
    if kept is None:
        raise Wrong("saves no sequence")
    library.remove(run.context, 0, -1, -1)
    _compare(run.read((second[64:70], 64, 1)), expected[1][64:70], "a cache with holes")
    library.remove(run.context, 1, -1, -1)
    _compare(run.read((first[:10], 0, 2)), expected[0][:10], "a cache that was emptied")
    if not library.load(run.context, 3, kept):
        raise Wrong("loads no sequence that it has saved")
    _compare(run.read((second[64:80], 64, 3)), expected[1][64:80], "a sequence that was saved")
    library.free_context(run.context)


def _compare(found: Rows, expected: Rows, where: str) -> None:
    """Raise Wrong unless each row is near enough."""
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    if not (errors <= TOLERANCE).all():
        raise Wrong(f"computes wrong logits for {where}, {errors.max():.0%} away from right ones")


def main(name: str) -> int:
    """Entry point; returns the exit status."""
    try:
        library = open_library(name)
        for width in WIDTHS:
            check(library, ModelOptions(), width)
            if library.traits.can_repack:
                check(library, ModelOptions(repack_tensors=True), width)
    except LibraryUnusable as error:
        print(error)
        return 1
    except Wrong as error:
        print(f"The library {name} {error}.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
