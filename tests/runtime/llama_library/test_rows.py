"""Weights of every width and kind, in batches of every size: all rows are multiplied rightly."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf.quants import quantize

from runtime.llama_library import ik
from runtime.llama_library.installed import installed_families, open_library
from runtime.llama_library.library import LlamaLibrary, LoadedModel
from runtime.llama_library.results import floats_at
from runtime.llama_library.self_check import __main__ as self_check
from runtime.llama_library.self_check import tiny
from runtime.llama_library.self_check.reference import Rows, reference_logits
from runtime.llama_library.self_check.tiny import NUM_VOCAB, Values
from runtime.llama_library.token_batch import TokenBatch
from runtime.llama_library.values import ContextOptions, ModelOptions
from runtime.models.gguf import GGUFFile, TensorInfo

FAMILIES = installed_families()
KINDS = [Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0]
TOLERANCE = {Kind.F16: 0.02, Kind.BF16: 0.03}

with_ik = pytest.mark.skipif("ik_llama.cpp" not in FAMILIES, reason="ik_llama.cpp is missing")


def write_of(
    kind: Kind, path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Values]:
    """The model of the self-check with all weights of one kind."""

    def blocks(random: np.random.Generator, shape: tuple[int, int], wanted: Kind) -> np.ndarray:
        values = random.normal(0, width**-0.5, shape).astype(np.float32)
        return quantize(values, wanted)

    layer = {name: (share, kind) for name, (share, _) in tiny._LAYERS[0].items()}
    monkeypatch.setattr(tiny, "_LAYERS", (layer, layer))
    monkeypatch.setattr(tiny, "_random_blocks", blocks)
    monkeypatch.setattr(tiny, "_BLOCKS_OF_256", {Kind.Q6_K: kind})
    return tiny.write_model(path, width)


def logits(library: LlamaLibrary, model: LoadedModel, token_ids: list[int]) -> Rows:
    """The logits of a text that is read in one batch."""
    size = len(token_ids)
    options = ContextOptions(
        num_cells=256, max_batch=size, max_rows=size, max_sequences=1, num_threads=1
    )
    context = library.new_context(model, options)
    batch = TokenBatch(library, max_tokens=size, max_ids=1)
    batch.put(token_ids, 0, (0,), wanted=True)
    assert library.decode(context, batch.data) == 0
    rows = [floats_at(library.logits(context, row), NUM_VOCAB).copy() for row in range(size)]
    library.free_context(context)
    return np.stack(rows).astype(np.float64)


def texts() -> list[list[int]]:
    return [
        np.random.default_rng(size).integers(0, NUM_VOCAB, size).tolist()
        for size in (8, 31, 32, 100)
    ]


@pytest.mark.parametrize("width", [288, 352, 576])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_rows_of_any_width_and_kind(
    width: int, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In every library, as the file has them and repacked."""
    path = tmp_path / "model.gguf"
    weights = write_of(kind, path, width, monkeypatch)
    expected = [reference_logits(weights, token_ids) for token_ids in texts()]
    for library in map(open_library, FAMILIES):
        for repack in {False, library.traits.can_repack}:
            model = library.load_model(str(path), ModelOptions(repack_tensors=repack))
            assert model is not None, library.last_messages()
            for token_ids, rows in zip(texts(), expected, strict=True):
                errors = distances(logits(library, model, token_ids), rows)
                assert errors.max() < TOLERANCE.get(kind, 0.08), (library.family, len(rows), repack)
            library.free_model(model)


def distances(found: Rows, expected: Rows) -> np.ndarray:
    """Of each row, as a share of its length."""
    return np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)


@with_ik
def test_the_self_check_sees_what_is_left_out(monkeypatch: pytest.MonkeyPatch):
    """Without the bound on rows, ik_llama.cpp multiplies some weights wrongly."""
    monkeypatch.setattr(ik, "_MAX_UNEVEN_ROWS", 10_000)
    with pytest.raises(self_check.Wrong, match="wrong logits for a prompt"):
        self_check.check(open_library("ik_llama.cpp"), ModelOptions(), 320)


@with_ik
@pytest.mark.parametrize(
    ("causal", "kind", "width", "word"),
    [
        (False, "Q4_1", 320, "encoder"),
        (False, "Q5_1", 48, "encoder"),
        (False, "Q4_1", 384, ""),
        (False, "Q4_0", 320, ""),
        (True, "Q4_1", 320, ""),
    ],
)
def test_an_encoder_that_would_be_read_wrongly_is_left_to_another_library(
    causal: bool, kind: str, width: int, word: str
):
    """An encoder reads a text at once, so that it cannot be read in small parts."""
    file = GGUFFile(
        path="model.gguf",
        version=3,
        alignment=32,
        file_size=0,
        metadata={"general.architecture": "bert", "bert.attention.causal": causal},
        tensors=(TensorInfo("blk.0.attn_q.weight", (width, 64), kind, 0, 0),),
    )
    objection = open_library("ik_llama.cpp").objection(file)
    assert word in objection
    assert bool(objection) is bool(word)
