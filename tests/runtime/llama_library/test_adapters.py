"""Adapters of every rank, on weights of every kind: as if they had been added to the weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.llama_library.installed import installed_families, open_library
from runtime.llama_library.library import LlamaLibrary
from runtime.llama_library.results import floats_at
from runtime.llama_library.self_check.reference import Rows, reference_logits
from runtime.llama_library.self_check.tiny import NUM_VOCAB, Values, write_model
from runtime.llama_library.token_batch import TokenBatch
from runtime.llama_library.values import ContextOptions, ModelOptions
from runtime.models.gguf import read_gguf
from tests.kit.models.tiny_adapter import write_adapter

FAMILIES = installed_families()
TOLERANCE = 0.1
"""Of the logits' length: rounding to 8 bits, and what the adapter makes of it."""

TEXT = np.random.default_rng(3).integers(0, NUM_VOCAB, 56).tolist()


class Adapted:
    """A model of the self-check with an adapter, in one context with two sequences."""

    def __init__(self, library: LlamaLibrary, folder: Path, adapter: Path, options: ModelOptions):
        self._library = library
        model = library.load_model(str(folder / "model.gguf"), options)
        assert model is not None, library.last_messages()
        self.model = model
        self._context = library.new_context(
            model,
            ContextOptions(
                num_cells=256,
                max_batch=64,
                max_rows=64,
                max_sequences=2,
                num_threads=1,
                adapts=True,
            ),
        )
        self._batch = TokenBatch(library, max_tokens=64, max_ids=1)
        self._adapter = library.load_adapter(model, str(adapter))
        assert self._adapter, library.last_messages()

    def read(self, start: int, end: int, *, adapted: bool) -> Rows:
        """The logits of a part of the text, in the one or the other sequence."""
        assert self._library.use_adapter(self._context, self._adapter * adapted, 1.0)
        self._batch.clear()
        self._batch.put(TEXT[start:end], start, (int(adapted),), wanted=True)
        assert self._library.decode(self._context, self._batch.data) == 0
        rows = range(end - start)
        addresses = [self._library.logits(self._context, row) for row in rows]
        return np.stack([floats_at(each, NUM_VOCAB) for each in addresses]).astype(np.float64)

    def close(self) -> None:
        self._library.free_context(self._context)
        self._library.free_adapter(self._adapter)
        self._library.free_model(self.model)


def matrices(weights: dict[str, Values]) -> dict[str, tuple[int, int]]:
    """Names and shapes of all that an adapter changes."""
    return {
        f"{name}.weight": values.shape
        for name, values in weights.items()
        if values.ndim == 2 and name != "token_embd"
    }


def merged(weights: dict[str, Values], changes: dict[str, np.ndarray]) -> dict[str, Values]:
    """The weights with the changes added."""
    return {name: each + changes.get(f"{name}.weight", 0) for name, each in weights.items()}


def error_of(found: Rows, expected: Rows) -> float:
    """The largest distance of a row, as a share of its length."""
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return float(errors.max())


def steps() -> Iterator[tuple[int, int]]:
    """A prompt, then token after token."""
    yield 0, 50
    yield from ((start, start + 1) for start in range(50, len(TEXT)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [256, 320])
@pytest.mark.parametrize("rank", [1, 4, 8, 12, 16, 33])
def test_with_an_adapter_logits_are_those_of_merged_weights(
    family: str, width: int, rank: int, tmp_path: Path
):
    """Step by step in turn with a sequence without it, in the same context."""
    library = open_library(family)
    weights = write_model(tmp_path / "model.gguf", width)
    path = tmp_path / "adapter.gguf"
    strength = 0.3 * rank**-0.5
    changes = write_adapter(path, matrices(weights), rank=rank, alpha=rank, strength=strength)
    if library.adapter_objection(read_gguf(path)):
        pytest.skip(f"{family} adds no adapter of rank {rank}")
    expected = {False: reference_logits(weights, TEXT)}
    expected[True] = reference_logits(merged(weights, changes), TEXT)
    assert error_of(expected[True], expected[False]) > 3 * TOLERANCE, "the adapter does something"
    for repack in sorted({False, library.traits.can_repack}):
        run = Adapted(library, tmp_path, path, ModelOptions(repack_tensors=repack))
        for start, end in steps():
            for adapted in (False, True):
                found = run.read(start, end, adapted=adapted)
                error = error_of(found, expected[adapted][start:end])
                assert error < TOLERANCE, (repack, adapted, start)
        run.close()
