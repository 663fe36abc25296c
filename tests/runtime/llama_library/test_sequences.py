"""Every installed library against a forward pass in numpy, under random traffic of sequences."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.llama_library.installed import installed_families, open_library
from runtime.llama_library.library import LlamaLibrary
from runtime.llama_library.results import floats_at
from runtime.llama_library.self_check.reference import reference_logits
from runtime.llama_library.self_check.tiny import CONTEXT, NUM_VOCAB, WIDTHS, Values, write_model
from runtime.llama_library.token_batch import TokenBatch
from runtime.llama_library.values import ContextOptions, LoadedModel, ModelOptions

NUM_SEQUENCES = 4
TRANSIT = NUM_SEQUENCES
MAX_TOKENS = 40
TOLERANCE = 0.08

pytestmark = pytest.mark.skipif(not installed_families(), reason="no llama.cpp library")


class Traffic:
    """Sequences in one context, with what they should be known beside them."""

    def __init__(self, library: LlamaLibrary, model: LoadedModel, weights: dict[str, Values]):
        self.library, self.weights = library, weights
        options = ContextOptions(
            num_cells=CONTEXT, max_batch=64, max_rows=64, max_sequences=8, num_threads=1
        )
        self.context = library.new_context(model, options)
        assert self.context, library.last_messages()
        self.batch = TokenBatch(library, max_tokens=64, max_ids=NUM_SEQUENCES)
        self.texts: list[list[int]] = [[] for _ in range(NUM_SEQUENCES)]

    def read(self, pieces: dict[int, list[int]]) -> None:
        """Some sequences go on, in one batch; each must see its own text and no other."""
        self.batch.clear()
        ends: dict[int, int] = {}
        for number, tokens in pieces.items():
            self.batch.put(tokens, len(self.texts[number]), (number,), wanted=False)
            ends[number] = self.batch.num_tokens - 1
            self.batch.want(ends[number])
            self.texts[number] += tokens
        assert self.library.decode(self.context, self.batch.data) == 0
        for number, row in ends.items():
            found = floats_at(self.library.logits(self.context, row), NUM_VOCAB)
            expected = reference_logits(self.weights, self.texts[number])[-1]
            distance = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            assert distance < TOLERANCE, (number, len(self.texts[number]), distance)

    def end(self, number: int) -> None:
        self.library.remove(self.context, number, 0, -1)
        self.texts[number] = []

    def branch(self, source: int, target: int, length: int) -> None:
        self.end(target)
        self.library.copy(self.context, source, target, 0, length)
        self.texts[target] = self.texts[source][:length]

    def leave_and_return(self, number: int, length: int) -> None:
        """Out of the cache and back, cut to a length, through the id for that."""
        data = self.library.save(self.context, number)
        assert data is not None
        text = self.texts[number][:length]
        self.end(number)
        assert self.library.load(self.context, TRANSIT, data)
        self.library.copy(self.context, TRANSIT, number, 0, length)
        self.library.remove(self.context, TRANSIT, 0, -1)
        self.texts[number] = text


@pytest.fixture(scope="module", params=itertools.product(installed_families(), WIDTHS))
def loaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LlamaLibrary, LoadedModel, dict[str, Values]]]:
    family, width = request.param
    library = open_library(family)
    path: Path = tmp_path_factory.mktemp("check") / "check.gguf"
    weights = write_model(path, width)
    options = ModelOptions(repack_tensors=library.traits.can_repack)
    model = library.load_model(str(path), options)
    assert model is not None
    yield library, model, weights
    library.free_model(model)


tokens = st.lists(st.integers(0, NUM_VOCAB - 1), min_size=1, max_size=20)
numbers = st.integers(0, NUM_SEQUENCES - 1)
actions = st.one_of(
    st.tuples(st.just("read"), st.dictionaries(numbers, tokens, min_size=1, max_size=3)),
    st.tuples(st.just("end"), numbers),
    st.tuples(st.just("branch"), numbers, numbers, st.integers(1, MAX_TOKENS)),
    st.tuples(st.just("return"), numbers, st.integers(1, MAX_TOKENS)),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(actions, max_size=16))
def test_sequences_see_themselves_alone(
    loaded: tuple[LlamaLibrary, LoadedModel, dict[str, Values]], script: list[tuple]
):
    """Whatever ended, branched off or came back before: also with holes in the cache."""
    traffic = Traffic(*loaded)
    for action in script:
        match action:
            case ("read", pieces):
                fitting = {
                    number: more
                    for number, more in pieces.items()
                    if len(traffic.texts[number]) + len(more) <= MAX_TOKENS
                }
                if fitting:
                    traffic.read(fitting)
            case ("end", number):
                traffic.end(number)
            case ("branch", source, target, length):
                if source != target and length <= len(traffic.texts[source]):
                    traffic.branch(source, target, length)
            case ("return", number, length):
                if length <= len(traffic.texts[number]):
                    traffic.leave_and_return(number, length)
    traffic.library.free_context(traffic.context)


def test_a_sequence_behind_a_hole_is_seen(
    loaded: tuple[LlamaLibrary, LoadedModel, dict[str, Values]],
):
    """36 cells become free in front of 12 in use, and the next tokens fit into them."""
    traffic = Traffic(*loaded)
    text = np.random.default_rng(3).integers(0, NUM_VOCAB, 80).tolist()
    traffic.read({0: text[:36]})
    traffic.read({1: text[36:48]})
    traffic.end(0)
    for start in range(48, 64, 8):
        traffic.read({1: text[start : start + 8]})
    traffic.library.free_context(traffic.context)
